"""The help, the documents and the commands say the same; asking for help is quick."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from nas import __version__
from nas.cli.app import app
from nas.core import DataSpec, SearchSpec, TrainingSpec
from nas.core.objective import COST_METRICS

DOCS = Path(__file__).parents[2] / "docs"
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
HEADINGS = {match[1]: match[0] for match in re.finditer(r"^### `nas (\w+).*`$", CLI, re.M)}
GROUP: Any = typer.main.get_command(app)


def options(name: str) -> set[str]:
    return {option for param in GROUP.commands[name].params for option in param.opts if option.startswith("--")}


def test_every_command_is_documented_and_no_other() -> None:
    assert list(HEADINGS) == list(GROUP.commands)


@pytest.mark.parametrize("name", list(GROUP.commands))
def test_the_options_of_a_command_are_those_of_its_document(name: str) -> None:
    assert set(re.findall(r"--[a-z-]+", HEADINGS[name])) == options(name) - {"--store"}
    assert ("--store" in options(name)) == (name not in ("init", "devices", "trust"))
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert all(option in result.stdout for option in options(name))


@pytest.mark.parametrize(("section", "spec"), [("training", TrainingSpec), ("search", SearchSpec), ("data", DataSpec)])
def test_the_document_of_the_job_file_has_every_key_with_its_default(section: str, spec: Any) -> None:
    text = (DOCS / "job-file.md").read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`|none) \|", text.split("\n\n| data set")[0], re.M)
    defaults = {
        field.name: ""
        if field.name == "path"
        else field.default
        if isinstance(field.default, str)
        else json.dumps(field.default)
        for field in dataclasses.fields(spec)
        if field.default is not dataclasses.MISSING
    }
    assert dict(rows) == ({**defaults, "options": "{}"} if spec is DataSpec else defaults)


def test_the_document_of_the_job_file_has_every_metric() -> None:
    from nas.tasks import KINDS

    text = (DOCS / "job-file.md").read_text(encoding="utf-8").split("\n## objectives\n")[1].split("\n## ")[0]
    names = [metric.name for kind in KINDS.values() for metric in kind.metrics]
    assert [name for name in [*names, *COST_METRICS] if f"`{name}" not in text] == []


def test_the_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"nas {__version__}\n")


HEAVY = {
    "torch",
    "ray",
    "optuna",
    "sqlalchemy",
    "streamlit",
    "pandas",
    "onnx",
    "onnxruntime",
    "pydantic",
    "yaml",
    "sklearn",
    "scipy",
}


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
from nas.cli.app import main
sys.argv = ["nas", "--help"]
try:
    main()
finally:
    print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "[]\n")
    assert "Search for multi-task networks" in result.stdout
