"""`import nas` gives the values of nas.core, and loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nas
import nas.core

HEAVY = ("torch", "ray", "sqlalchemy", "streamlit", "optuna", "pandas", "pydantic", "sklearn", "scipy", "onnxruntime", "plotly")
ROOT = Path(nas.__file__).parents[1]


def loaded_after(statement: str) -> set[str]:
    """Return the modules of a new interpreter after a statement."""
    script = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


def test_the_package_exports_exactly_the_values_of_its_core() -> None:
    assert sorted(nas.__all__) == sorted(nas.core.__all__)
    assert all(getattr(nas, name) is getattr(nas.core, name) for name in nas.core.__all__)
    assert len(set(nas.core.__all__)) == len(nas.core.__all__)


@pytest.mark.parametrize("statement", ["import nas", "import search_spaces"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert not loaded_after(statement).intersection(HEAVY)


def test_every_public_name_says_what_it_is() -> None:
    types = ("BoolArray", "FloatArray", "JobId", "Option", "Precision")  # aliases
    missing = [name for name in nas.core.__all__ if name not in types and not getattr(nas.core, name).__doc__]
    assert not missing
