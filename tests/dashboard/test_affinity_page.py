"""The page on the affinity of tasks, and the drawing of a network whose tasks part."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic_job
from plotly import graph_objects as go
from test_dashboard_pages import charts, said, visit

from dashboard import palette
from dashboard.cards import affinity as card
from dashboard.cards import drawing, tree
from nas.core import ArchConfig, Artifact, Evaluation, InputSpec, Option, Source, SpaceSpec, Task, TaskSpec
from nas.core.affinity import AFFINITY, Affinity
from nas.store import open_store
from nas.train.affinity import propose
from search_spaces import make_space

TASKS = ("seg", "depth", "normals")
PICKS: dict[
    str, Option
] = {  # depth shares one of three layers with seg, normals two with depth: the order of the tasks is not the alphabet's
    "branch.depth.layers": 1,
    "branch.normals.layers": 2,
    "branch.normals.with": "depth",
    "stem.width": 1.0,
    "encoder.0.seg.width": 0.5,
    "encoder.1.seg.width": 0.25,
    "encoder.1.depth.width": 0.75,
    "encoder.2.seg.width": 1.0,
    "encoder.2.depth.width": 0.25,
    "encoder.2.normals.width": 0.5,
    "decoder.seg.width": 1.0,
    "decoder.depth.width": 0.5,
    "decoder.normals.width": 0.25,
}


def measured() -> Affinity:
    """Return what could be measured of three tasks and two layers, with the trees that follow."""
    definition = make_space(
        "branched",
        {"channels": (16, 32)},
        (Task("seg", "segmentation", 4), Task("depth", "depth", 1), Task("normals", "normals", 3)),
        InputSpec(3, 32, 32, (0.5,) * 3, (0.25,) * 3),
    )
    closeness = np.array([[[1, 0.9, 0.8], [0.9, 1, 0.7], [0.8, 0.7, 1]], [[1, 0.4, 0.2], [0.4, 1, 0.6], [0.2, 0.6, 1]]])
    ranks, channels = np.array([[3.0, 4, 5], [8, 9, 30]]), np.array([16.0, 32])
    gradients = np.array([[[1, -0.25, 0.1], [-0.25, 1, np.nan], [0.1, np.nan, 1]]] * 2)
    trees = [
        replace(each, arch=definition.arch_of(each.partitions), macs=2e6, full_macs=3e6)  # type: ignore[attr-defined]
        for each in propose(closeness, TASKS, ranks, channels)
    ]
    spread = np.full((2, 3, 3), 0.125)
    return Affinity(TASKS, "twins", {}, 128, closeness, closeness, closeness, gradients, spread, ranks, channels, tuple(trees))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store with a job whose tasks were compared, and which evaluated a tree: its path and the job's id."""
    path = str(tmp_path_factory.mktemp("compared") / "nas.db")
    store = open_store(path)
    job = store.create_job(replace(synthetic_job.SPEC, space=SpaceSpec("branched")))
    metrics = dict.fromkeys((objective.metric for objective in synthetic_job.SPEC.objectives), 1.0)
    store.add(job, [Evaluation(ArchConfig(PICKS), metrics, Source.MEASURED, "verify", split="test")])
    file = store.folder(job) / "affinity.json"
    file.write_text(measured().to_json())
    store.add_artifact(job, Artifact(AFFINITY, file, hashlib.sha256(file.read_bytes()).hexdigest()))
    store.close()
    return path, job


def test_the_page_shows_every_measure_and_the_trees(compared: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = compared
    app = visit(path, monkeypatch, "affinity", job=job)
    seen = said(app)
    assert "Representations are those of the single-task twins, of 128 training images." in seen
    assert [each.value for each in app.subheader] == [
        *(title for title, _ in card.TITLES.values()),
        "Where the tasks may part",
    ]
    figures = charts(app)
    assert len(figures) == 5
    assert [len(figure.data) for figure in figures[:4]] == [3] * 4  # two layers and their mean
    assert list(figures[1].data[2].text[0]) == ["1.00", "0.65", "0.50"]  # the mean of both layers
    assert figures[3].data[0].text[1][2] == "?"  # not known
    table = app.dataframe[0].value
    assert table["Tree"].to_list() == [each.name for each in measured().trees]
    assert table["Enough width"].iloc[0] == "0.75 › 1.00"
    app.selectbox("tree").set_value(table["Tree"].iloc[-1]).run()
    assert not app.exception
    assert boxes(charts(app)[4]) == 1 + 6 + 3  # stem, three branches in each of two layers, decoders


def test_not_yet_is_a_sentence(finished: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = finished
    assert f"nas affinity {job}" in said(visit(path, monkeypatch, "affinity", job=job))
    store = open_store(str(tmp_path / "nas.db"))
    job = store.create_job(replace(synthetic_job.SPEC, tasks=(TaskSpec("seg"),)))
    store.close()
    assert "nothing to compare" in said(visit(str(tmp_path / "nas.db"), monkeypatch, "affinity", job=job))


def test_a_network_whose_tasks_part_is_drawn_as_a_tree(compared: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = compared
    (figure,) = charts(visit(path, monkeypatch, "candidate", job=job))
    assert boxes(figure) == 1 + 1 + 2 + 3 + 3
    frame = drawing.info(ArchConfig(PICKS))
    parts = frame[frame["part"] == "branch"]
    assert [tuple(row) for row in parts[["layer", "name", "tasks", "from", "width"]].to_numpy()] == [
        (0, "seg", "seg+depth+normals", "", 0.5),
        (1, "seg", "seg", "seg", 0.25),
        (1, "depth", "depth+normals", "seg", 0.75),
        (2, "seg", "seg", "seg", 1.0),
        (2, "depth", "depth", "depth", 0.25),
        (2, "normals", "normals", "depth", 0.5),
    ]
    tall = {shape.fillcolor: height(shape.path) for shape in figure.layout.shapes if shape.fillcolor in palette.SERIES}
    decoder = 0.8
    assert tall[palette.series(1)] == pytest.approx(decoder)
    assert tall[palette.series(2)] == pytest.approx(decoder / 2)
    assert tall[palette.series(3)] == pytest.approx(decoder / 4)
    links = [shape for shape in figure.layout.shapes if not shape.fillcolor]
    assert len(links) == boxes(figure)  # each part has one before it
    words = [note.text for note in figure.layout.annotations]
    assert [word for word in words if word.startswith("layer")] == ["layer 0", "layer 1", "layer 2"]
    assert "<b>×0.25</b><br>normals" in words


def test_each_branch_has_its_precision_and_a_lone_tree_its_suggested_widths() -> None:
    policy: dict[str, Option] = {
        "precision.stages.1": "int8",
        "precision.stages.2.normals": "fp32",
        "precision.decoders.seg": "int8",
    }
    frame = drawing.info(ArchConfig(PICKS | policy)).set_index(["part", "layer", "name"])["precision"]
    assert (frame["branch", 1, "seg"], frame["branch", 1, "depth"]) == ("int8", "int8")
    assert (frame["branch", 2, "normals"], frame["branch", 2, "depth"]) == ("fp32", "")
    assert frame["decoder", 3, "seg"] == "int8"
    sketched = tree.sketch(measured().trees[0])
    assert sketched["width"].to_list() == [0.75, 1.0, 1.0, 1.0, 1.0]
    assert boxes(tree.draw(sketched)) == 5


def test_tasks_that_part_late_stand_together() -> None:
    full = [*(f"encoder.{layer}.{task}.width" for layer in range(2) for task in "ab"), "encoder.1.d.width"]
    picks: dict[str, Option] = dict.fromkeys([*full, *(f"decoder.{task}.width" for task in "abcd")], 1.0)
    picks |= {"branch.b.layers": 0, "branch.c.layers": 2, "branch.c.with": "a", "branch.d.layers": 1, "branch.d.with": "b"}
    frame = drawing.info(ArchConfig(picks))  # a and c share all; d leaves b after the first layer
    assert frame[frame["part"] == "decoder"]["name"].to_list() == ["a", "c", "b", "d"]


def boxes(figure: go.Figure) -> int:
    return sum(shape.fillcolor in palette.SERIES for shape in figure.layout.shapes)


def height(path: str) -> float:
    ys = [float(point.split(",")[1]) for point in path.split() if "," in point]
    return max(ys) - min(ys)
