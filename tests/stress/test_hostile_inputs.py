"""A sample of the damaged stores, mutated job files and hostile environments of ``stress/hostile.py``, and the fast cases."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "stress"))

from cases import ENDINGS, PLACE, Ending, run, wrong  # noqa: E402
from damaged_stores import try_stores  # noqa: E402
from hostile_environments import try_environments  # noqa: E402
from mutated_jobs import try_jobs  # noqa: E402

needs_cases = pytest.mark.skipif(not PLACE.is_dir(), reason="no cases beside the checkout")


def test_damaged_stores_give_no_traceback() -> None:
    assert list(try_stores(8, seed=1)) == []


def test_mutated_job_files_give_no_traceback() -> None:
    assert list(try_jobs(300, seed=1)) == []


def test_hostile_environments_give_no_traceback() -> None:
    assert list(try_environments(3, seed=1)) == []


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, ending in ENDINGS.items() if ending.fast])
def test_a_case_that_takes_seconds_ends_as_it_should(name: str) -> None:
    output, _, ended = run(PLACE / name, Path(sys.executable).parent, ENDINGS[name].limit_s)
    assert ended
    assert wrong(ENDINGS[name], output) == []


@needs_cases
def test_every_case_has_an_ending() -> None:
    assert {path.parent.name for path in PLACE.glob("*/run.sh")} == set(ENDINGS)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("error: no\nexit code 2", ""),
        ("Traceback (most recent call last):\nexit code 2", "it says: Traceback"),
        ("error: no\nexit code 1", "exit codes [1]"),
        ("fine\nexit code 2", "it does not say: error"),
        ("error: no\nexit code 0", "0 commands were refused"),
    ],
)
def test_an_ending_is_told_from_another(output: str, why: str) -> None:
    found = wrong(Ending(frozenset({0, 2}), ("error",), failures=1), output)
    assert found == [] if not why else any(line.startswith(why) for line in found)
