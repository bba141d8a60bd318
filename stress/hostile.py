"""Damaged stores, mutated job files and hostile environments: how many end in a traceback? None should.

    python stress/hostile.py                         300 stores, 10,000 job files, 60 environments
    python stress/hostile.py --stores 20 --jobs 500 --environments 10 --seed 3

Every input is drawn from the seed and its number, so that one that failed is made again by the same numbers.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

from damaged_stores import try_stores
from hostile_environments import try_environments
from mutated_jobs import try_jobs

STORES, JOBS, ENVIRONMENTS = 300, 10_000, 60


def main() -> int:
    """Try what the command line asks for and count tracebacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=int, default=STORES)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--environments", type=int, default=ENVIRONMENTS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    total = 0
    with tempfile.TemporaryDirectory(prefix="nas-hostile-home-") as home:
        os.environ |= {"NAS_HOME": home, "NAS_CONFIG": home}
        for what, count, attempt in (
            ("damaged stores", arguments.stores, try_stores),
            ("mutated job files", arguments.jobs, try_jobs),
            ("hostile environments", arguments.environments, try_environments),
        ):
            found, began = 0, time.monotonic()
            for line in attempt(count, arguments.seed):
                found += 1
                print(line, flush=True)
            print(f"{count} {what}: {found} tracebacks, {time.monotonic() - began:.0f} s", flush=True)
            total += found
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
