"""Runs small inputs that once failed, each as a user would, and says whether each ends as it should.

    python stress/cases.py                      every case; many run whole jobs, which takes half an hour on two cores
    python stress/cases.py --only broken_npz optuna_path
    python stress/cases.py --fast               those that end within seconds

A case is a folder with a ``run.sh``, which works on a copy and prints an ``exit code`` after each command. What should come of
it is written below: every command's exit code, what the output says, and what it never says. A case that has no line there is
held to the rule of all: no traceback.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PLACE = Path(__file__).parents[2] / "shared" / "cases"
NEVER = (r"Traceback \(most recent call last\)", r"^Aborted!", r"something unforeseen went wrong", r"^FAILS", r": FAILS")
CONFIG = tempfile.TemporaryDirectory(prefix="nas-cases-")
CODE = re.compile(r"exit code:? (\d+)")
ERROR = r"^(?:.*: )?error: "


@dataclass(frozen=True, slots=True)
class Ending:
    """How a case should end.

    Attributes:
        codes: The exit codes that its commands may have.
        says: Patterns that the output holds, each in some line.
        never: Patterns that no line holds, besides those of all cases.
        failures: At least so many commands are refused with exit code 2.
        fast: Whether it ends within seconds.
        limit_s: After which it counts as one that does not end.
    """

    codes: frozenset[int] = frozenset({0})
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    failures: int = 0
    fast: bool = False
    limit_s: float = 600


FINE = frozenset({0})
MIXED = frozenset({0, 2})
REFUSED = frozenset({2})
ENDINGS: dict[str, Ending] = {
    "argparse_module": Ending(REFUSED, (r"ends the program when it is imported", ERROR), (r"^usage:",), 1, True),
    "batch_of_one": Ending(MIXED, (ERROR,), failures=1),
    "broken_npz": Ending(REFUSED, (r"is not the \.npz of nyuv2", r"is not the \.npz of cifar100_mtl"), failures=8),
    "calibration_tail": Ending(says=(r": ok$",)),
    "constant_labels": Ending(MIXED),
    "deep_units": Ending(),
    "device_names": Ending(
        says=(r"a device's name is letters, digits", r"v1\.2 -> taken"), never=(r"my board -> taken",), fast=True
    ),
    "disk_full": Ending(frozenset({0, 1, 2}), (r"[Nn]o space left|disk is full",), (r"write a path to a SQLite file",)),
    "email_prompt": Ending(says=(r"answers: 200",), never=(r"[Ee]mail:", r"answers: 000"), limit_s=240),
    "few_evaluations": Ending(MIXED),
    "hash_in_home": Ending(says=(r"rank 0 mean 0\.5", r"exit codes \[0, 0\]"), fast=True),
    "inf_depth": Ending(says=(r"gradient finite True",), fast=True),
    "latin1_output": Ending(MIXED, (r"ascii, nas jobs: exit code 0", r"cp1252, nas status -f csv: exit code 0"), limit_s=900),
    "long_tmpdir": Ending(MIXED),
    "many_classes": Ending(MIXED, (r"ignored\): [1-9]", r"miou[^,}]*: 25"), fast=True),  # 255 is a class in both
    "many_jobs": Ending(says=(r"jobs: .* 0 exceptions", r"log: .* 0 exceptions"), never=(r"[1-9]\d* exceptions",)),
    "more_workers_than_images": Ending(says=(r"rank",), fast=True),
    "moved_store": Ending(says=(r"--- moved",)),
    "nan_preference": Ending(MIXED, (r"^ok$",)),
    "no_locks": Ending(frozenset({0, 1, 2}), (r"lock",)),
    "normals_as_image": Ending(frozenset({0, 1, 2})),
    "odd_shapes": Ending(),
    "one_arch": Ending(MIXED),
    "one_core": Ending(says=(r"local cores that nas takes: 1 ", r"ray cores that nas takes: 1 ")),
    "optuna_path": Ending(MIXED, (r"an Optuna storage is a path or an URL",), failures=2),
    "out_is_file": Ending(
        MIXED, (r"an export is written as NAME\.onnx or into a folder", r"folder\.onnx/\w+\.onnx$"), failures=2
    ),
    "own_metric": Ending(),
    "question_in_home": Ending(says=(r"^done$",), limit_s=400),
    "random_split": Ending(frozenset({0, 2}), (r"seed it|other data",), failures=1),
    "readonly_store": Ending(
        MIXED, (r"nas jobs: exit code 0", r"nas pareto: exit code 0", r"nas status: exit code 0", r"nas export .*: exit code 0")
    ),
    "resume_changed_data": Ending(frozenset({0, 1, 2}), (r"other data|is not what it was|gives other",)),
    "shadowed_names": Ending(says=(r"\bdone\b", r"^200$"), never=(r"still watching\) 124", r"^000$"), limit_s=900),
    "size_limit": Ending(),
    "strided_1x1": Ending(says=(r"survived",), limit_s=900),
    "task_image": Ending(),
    "twin_zero": Ending(),
    "unknown_uid": Ending(MIXED, (r"nas export: exit code 0", r"dashboard: 200"), limit_s=900),
    "unreachable_cluster": Ending(frozenset({1, 2}), limit_s=400),
    "unseen_class": Ending(MIXED, (ERROR,)),
    "wheel": Ending(says=(r"^200$",), limit_s=900),
}


def wrong(ending: Ending, output: str) -> list[str]:
    """Return what is not as it should be about the output of a case, one sentence each."""
    found = [
        f"it says: {match[0].strip()[:80]}" for each in (*NEVER, *ending.never) if (match := re.search(each, output, re.M))
    ]
    found += [f"it does not say: {each}" for each in ending.says if not re.search(each, output, re.M)]
    codes = [int(code) for code in CODE.findall(output)]
    if odd := sorted(set(codes) - ending.codes):
        found.append(f"exit codes {odd}")
    if codes.count(2) < ending.failures:
        found.append(f"{codes.count(2)} commands were refused, {ending.failures} should be")
    return found


def run(folder: Path, bin_folder: Path, limit_s: float) -> tuple[str, float, bool]:
    """Run a case and return what it printed, the seconds it took, and whether it ended in time."""
    environment = {**os.environ, "NAS_BIN": str(bin_folder), "NAS_SRC": str(Path(__file__).parents[1])}
    environment |= {"XDG_CONFIG_HOME": CONFIG.name}  # what the cases allow to run is not allowed for good
    began = time.monotonic()
    command = ["bash", str(folder / "run.sh")]
    # A session of its own, so that what it started in the background ends with it.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True, cwd=folder
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
        ended = True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        ended = False
    return output.decode("utf-8", "backslashreplace"), time.monotonic() - began, ended


def main() -> int:
    """Run the cases that the command line names and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=PLACE, help="folder of the cases")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these cases")
    parser.add_argument("--fast", action="store_true", help="those that end within seconds")
    parser.add_argument("--bin", type=Path, default=Path(sys.executable).parent, help="folder of the nas to try")
    parser.add_argument("--outputs", type=Path, help="folder for what each case printed")
    arguments = parser.parse_args()
    if not arguments.cases.is_dir():
        print(f"there are no cases at {arguments.cases}: nothing to run", file=sys.stderr)
        return 0
    names = sorted(path.parent.name for path in arguments.cases.glob("*/run.sh"))
    if unknown := set(arguments.only) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    names = arguments.only or [name for name in names if not arguments.fast or ENDINGS.get(name, Ending()).fast]
    failed = 0
    for name in names:
        ending = ENDINGS.get(name, Ending(frozenset({0, 1, 2, 130})))
        output, seconds, ended = run(arguments.cases / name, arguments.bin.absolute(), ending.limit_s)
        if arguments.outputs is not None:
            arguments.outputs.mkdir(parents=True, exist_ok=True)
            (arguments.outputs / f"{name}.txt").write_text(output, encoding="utf-8")
        found = ([] if ended else [f"it did not end within {ending.limit_s:.0f} s"]) + wrong(ending, output)
        failed += bool(found)
        print(f"{name:26} {'fails' if found else 'right':6} {seconds:6.0f} s  {'; '.join(found)}", flush=True)
    print(f"{len(names) - failed} of {len(names)} end as they should")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
