"""A store that others write to: what a job brings along runs only where this user submitted or allowed it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_job import tiny_spec

from nas.core import DataSpec, JobSpec, SpaceSpec, UserError
from nas.service import api
from nas.service.affinity import affinity
from nas.service.control import control_table
from nas.service.jobfile import load_job
from nas.service.trust import allow, remember, trusted_spec, untrusted
from nas.store import SqlStore, home

EVIL = DataSpec("python:os:system", options={"command": "touch it-ran"})
JOB = """\
name: own
data: {name: "python:own_module:load"}
space: {name: "python:own_module:Space"}
tasks: [seg]
objectives: [error.seg, macs<=1]
"""
NOTICES = 'from pathlib import Path\nPath("it-ran").touch()\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NAS_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stranger(store: SqlStore, **changes: Any) -> str:
    """Put a job into the store as somebody else would: past `nas submit`."""
    return store.create_job(replace(tiny_spec(), **changes))


USES: dict[str, Callable[[SqlStore, str], Any]] = {
    "run": api.run,
    "resume": api.resume_in_background,
    "profile": api.profile_job,
    "optuna": lambda store, job: api.write_optuna(store, job, "sqlite:///study.db"),
    "trusted_spec": trusted_spec,
}


@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize("part", ["data", "space"])
def test_a_strangers_job_runs_nothing(store: SqlStore, folder: Path, use: str, part: str) -> None:
    brought = {"data": EVIL, "space": SpaceSpec("python:os:system", {"command": "touch it-ran"})}[part]
    job = stranger(store, **{part: brought})
    with pytest.raises(UserError, match=r"python:os:system; .*nas trust python:os:system$"):
        USES[use](store, job)
    assert not (folder / "it-ran").exists()


@pytest.mark.parametrize("use", [control_table, affinity])
def test_what_needs_a_trained_job_asks_as_soon_as_it_has_one(store: SqlStore, folder: Path, use: Callable[..., Any]) -> None:
    from nas.core import Stage

    job = stranger(store, data=EVIL)
    for stage in store.stages(job):
        store.start(job, stage)
        store.finish(job, stage, {"checkpoint": "feed"} if stage is Stage.TRAIN else {})
    with pytest.raises(UserError):
        use(store, job)
    assert not (folder / "it-ran").exists()


def test_trust_is_of_a_name_with_its_options(folder: Path) -> None:
    spec = replace(tiny_spec(), data=DataSpec("python:mine:load", options={"n": 1}))
    assert untrusted(spec) == ["python:mine:load"]
    remember(spec)
    assert untrusted(spec) == []
    assert untrusted(replace(spec, name="another", seed=5)) == []
    other = replace(spec, data=DataSpec("python:mine:load", options={"n": "; rm"}))
    assert untrusted(other) == ["python:mine:load"]
    allow(["python:mine:load"])
    assert untrusted(other) == []
    assert untrusted(replace(spec, data=DataSpec("python:mine:other"))) == ["python:mine:other"]


def test_the_environment_allows_names(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(tiny_spec(), data=DataSpec("python:mine:load"))
    monkeypatch.setenv("NAS_TRUST", "python:other:load, python:mine:load")
    assert untrusted(spec) == []


@pytest.mark.parametrize("change", ["others can write it", "another user's", "no JSON", "a number"])
def test_a_file_that_others_can_write_says_nothing(folder: Path, change: str) -> None:
    spec = replace(tiny_spec(), data=DataSpec("python:mine:load"))
    file = allow(["python:mine:load"])
    assert untrusted(spec) == []
    if change == "another user's" and os.geteuid() != 0:
        pytest.skip("needs root, who gives files away")
    {
        "others can write it": lambda: file.chmod(0o666),
        "another user's": lambda: os.chown(file, 65534, 65534),
        "no JSON": lambda: file.write_text("python:mine:load"),
        "a number": lambda: file.write_text("[[1], 5]"),
    }[change]()
    assert untrusted(spec) == ["python:mine:load"]


@pytest.mark.parametrize("name", ["os", "python:os", "python:os:", "python::system", "python:os:system()", "python:..os:x"])
def test_only_whole_names_are_allowed(name: str) -> None:
    with pytest.raises(UserError, match="is written python:package"):
        allow([name])


def test_what_a_user_submits_is_kept_outside_the_store(store: SqlStore, folder: Path) -> None:
    (folder / "own_things.py").write_text("def load():\n    pass\n")
    spec = replace(tiny_spec(), data=DataSpec("python:own_things:load"))
    job = api.create(store, spec)
    assert trusted_spec(store, job) == spec
    kept = folder / "config" / f"trusted-{os.getuid()}.json"
    assert "python" not in kept.read_text()
    assert len(json.loads(kept.read_text())) == 1
    assert not home().exists()


def test_a_folder_that_cannot_be_written_is_replaced_or_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(tiny_spec(), data=DataSpec("python:mine:load"))
    monkeypatch.setenv("NAS_CONFIG", "/proc/nowhere")
    remember(spec)  # in the data folder instead
    assert untrusted(spec) == []
    monkeypatch.setenv("NAS_HOME", "/proc/nowhere")
    assert untrusted(spec) == ["python:mine:load"]
    with pytest.raises(UserError, match=r"cannot be written .*; set NAS_CONFIG .* NAS_TRUST"):
        remember(spec)
    remember(tiny_spec())  # brings nothing along


@pytest.mark.parametrize("where", ["module", "package", "nested"])
def test_checking_a_job_file_runs_none_of_the_users_code(folder: Path, where: str) -> None:
    name = {"module": "own_module", "package": "own_package", "nested": "own_package.inner"}[where]
    source = NOTICES + "def load(size=3): ...\nclass Space:\n    def __init__(self, tasks, input, *, kernels=(1,)): ...\n"
    file = {"module": "own_module.py", "package": "own_package/__init__.py", "nested": "own_package/inner.py"}[where]
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / "own_package").mkdir(exist_ok=True)
    (folder / "own_package/__init__.py").write_text(NOTICES)
    (folder / file).write_text(source)
    text = JOB.replace("own_module", name)
    (folder / "job.yaml").write_text(text)
    assert isinstance(load_job(folder / "job.yaml"), JobSpec)
    for slip, hint in (
        ((":load", ":laod"), "did you mean 'load'"),
        ((":Space", ":Spice"), "did you mean 'Space'"),
        (('load"', 'load", options: {sise: 1}'), "did you mean 'size'"),
        (('Space"', 'Space", options: {kernel: 1}'), "did you mean 'kernels'"),
        ((name, "own_modul"), "cannot be found"),
    ):
        (folder / "job.yaml").write_text(text.replace(*slip))
        with pytest.raises(UserError, match=hint):
            load_job(folder / "job.yaml")
    assert not (folder / "it-ran").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import argparse\nargparse.ArgumentParser().parse_args(['--rate'])", "ends the program when it is imported"),
        ("raise SystemExit", "ends the program when it is imported"),
        ("import sys\nsys.exit('bye')", "ends the program when it is imported"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("def load(:", "cannot be imported: SyntaxError"),
        ("import predictors", "predictors is a package of nas; rename yours"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_sentence(
    store: SqlStore, folder: Path, source: str, message: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    import sys

    name = f"own_module_{abs(hash(request.node.name))}"
    kept = {each: sys.modules.pop(each) for each in list(sys.modules) if each.partition(".")[0] == "predictors"}
    (folder / "predictors.py").write_text("MODELS = []\n")
    (folder / f"{name}.py").write_text(source + "\ndef load(): ...\n")
    try:
        with pytest.raises(UserError, match=message):
            api.create(store, replace(tiny_spec(), data=DataSpec(f"python:{name}:load")))
    finally:
        sys.modules.update(kept)
    assert store.jobs() == []
    assert capsys.readouterr().err == ""
