"""Job files with lines lost, doubled, moved and replaced: each is taken, or refused in one sentence."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nas.core import UserError
from nas.service.jobfile import load_job
from nas.service.starter import starter


def mutate(lines: list[str], rng: np.random.Generator) -> str:
    """Return the text of a job file after one to four mutations."""
    lines = list(lines)
    letters = "abz09 :-[]{}\"'#,.<=>@&*!|%\t\x00\x07é\u2028😀\ud800"
    words = ["null", "true", "nan", ".inf", "-1", "1e999", "[]", "{}", "''", "9" * 40, "../x", "~", "0x10", "x" * 2000, "- - -"]
    words += ["&a [*a]", "!!python/object:os.system", "2020-01-01", "latency_ms@", "error.", "? a"]
    words += ["python:os:system", "python:no.such:f"]
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(lines)))
        line = lines[at]
        kind = int(rng.integers(9))
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(int(rng.integers(len(lines) + 1)), line)
        elif kind == 2:
            cut = int(rng.integers(len(line) + 1))
            lines[at] = line[:cut] + letters[int(rng.integers(len(letters)))] + line[cut:]
        elif kind == 3:
            lines[at] = f"{line.partition(':')[0]}: {words[int(rng.integers(len(words)))]}"
        elif kind == 4:
            lines[at] = " " * int(rng.integers(6)) + line.lstrip()
        elif kind == 5:
            other = int(rng.integers(len(lines)))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 6:
            lines[at] = line[: int(rng.integers(len(line) + 1))]
        elif kind == 7:
            lines[at] = re.sub(r"\d+", lambda _: str(rng.choice([-1, 0, 10**12, 10**30, 0.5])), line)
        else:
            lines[at] = f"{line}\n{' ' * int(rng.integers(6))}{words[int(rng.integers(len(words)))]}"
        if not lines:
            lines = ["name: x"]
    return "\n".join(lines) + "\n"


def try_jobs(count: int, seed: int) -> Iterator[str]:
    """Yield a line for every mutated job file that is neither taken nor refused in one sentence."""
    lines = [
        line.replace("# ", "", 1) if line.startswith("  # ") else line.partition(" #")[0] for line in starter().splitlines()
    ]
    lines = [line for line in lines if line.strip() and not line.startswith(("#", "  path"))]
    with tempfile.TemporaryDirectory(prefix="nas-hostile-") as place:
        file = Path(place) / "job.yaml"
        for number in range(count):
            text = mutate(lines, np.random.default_rng([seed, number]))
            file.write_bytes(text.encode("utf-8", "surrogatepass"))
            try:
                load_job(file)
            except UserError as error:
                if "\n" in str(error).strip():
                    yield f"job file {number}: more than one line: {error}"
            except Exception as error:
                yield f"job file {number}: {type(error).__name__}: {error}"
