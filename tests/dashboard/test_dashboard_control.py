"""The page that answers budgets and preferences, on a store with a control table and on one without."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import synthetic_job
from test_dashboard_pages import charts, said, visit

from dashboard.cards import control as card
from nas.core import Artifact, Objective
from nas.core.control import KIND, ControlTable, Cost, Steps, subject, vectors
from nas.store import open_store


def table() -> ControlTable:
    """Four encoders, two widths of a decoder; a decoder widens from a third of the preference on, where the budget allows."""
    encoders = np.array(list(product(range(2), repeat=2)), dtype=np.int16)
    ms = 2.0 + encoders.sum(axis=1)[:, None] + vectors(3, 2).sum(axis=1)
    errors = np.full((3, 4, 2), 0.8) - 0.1 * encoders.sum(axis=1)[:, None] - 0.1 * np.arange(2)
    steps = Steps(np.array([2.2, 5.5]), np.array([[np.inf], [0.34]]))
    choices = tuple((f"encoder.{stage}.width", (0.5, 1.0)) for stage in range(2))
    tasks, off = synthetic_job.TASKS, np.full(3, 0.02)
    costs, largest = {"latency_ms@local": Cost(ms, 0.1, 0.05)}, errors[:, -1, -1]
    both = {"latency_ms@local": steps}
    return ControlTable(tasks, (0.5, 1.0), choices, encoders, errors, largest, off, costs, both, "")


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    path = str(tmp_path_factory.mktemp("controlled") / "nas.db")
    job = synthetic_job.begin(path)
    store = open_store(path)
    file = store.folder(job) / "control.npz"
    table().save(file)
    store.add_artifact(job, Artifact(KIND, file, "1" * 64, info={"of": subject(store, job)}))
    store.close()
    return path, job


def test_sliders_are_answered_by_the_function_itself(controlled: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = controlled
    app = visit(path, monkeypatch, "control", job=job)
    steps = card.budgets(table(), "latency_ms@local")
    assert "All of it is predicted" in said(app)
    assert len(charts(app)) == 1
    app.select_slider("control.budget.latency_ms@local").set_value(steps[-1])
    for task, weight in zip(synthetic_job.TASKS, (1.0, 0.0, 0.0), strict=True):
        app.slider(f"control.{task}").set_value(weight)
    app.run()
    assert not app.exception
    picked = table().control(Objective("latency_ms@local", "min", steps[-1]), {"seg": 1.0})
    shown = dict(zip(app.dataframe[1].value["Choice"], app.dataframe[1].value["Option"], strict=True))
    assert shown == {name: str(option) for name, option in picked.arch.items()}
    assert shown["decoder.seg.width"] == "1.0"
    assert shown["decoder.depth.width"] == "0.5"
    assert f"nas export {job} --budget 'latency_ms@local<=" in said(app)
    for task in synthetic_job.TASKS:
        app.slider(f"control.{task}").set_value(0.0)
    app.run()
    assert "at least one task" in said(app)
    assert not app.exception


def test_a_job_without_a_table_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "nas.db")
    job = synthetic_job.begin(path)
    seen = said(visit(path, monkeypatch, "control", job=job))
    assert "no control table" in seen
    assert f"nas control {job}" in seen


def test_numbers_stand_beside_their_errors() -> None:
    budget = Objective("latency_ms@local", "min", 5.0)
    frame = card.info(table().control(budget, {"seg": 1.0}), budget).set_index("Metric")
    assert frame.loc["Latency · local", "Off by"].startswith("± 0.")
    assert frame.loc["Latency · local", "Compared with the budget"].endswith("ms")
    assert (frame.drop("Latency · local")["Compared with the budget"] == "").all()
    steps = card.budgets(table(), "latency_ms@local")
    assert steps[0] == 2.2
    assert steps[-1] == pytest.approx(7 * 1.1)
    assert dict(card.supernet(table()))["encoder.0.width"] == 1.0
