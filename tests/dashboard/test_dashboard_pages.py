"""Every page on a real store, in Streamlit's own test runner: no exception, and the sentences a reader should see."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic_job
from plotly import graph_objects as go
from streamlit.testing.v1 import AppTest

from dashboard import launch
from nas.core import Source, recommend
from nas.core import front as pareto_front
from nas.store import open_store


def visit(store: str, monkeypatch: pytest.MonkeyPatch, page: str | None = None, **query: str) -> AppTest:
    """Return the app after its first run on `page`."""
    monkeypatch.setattr(sys, "argv", ["app.py", "--store", store])
    app = AppTest.from_file(str(launch.APP), default_timeout=20)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    if page is not None:
        app.switch_page(f"views/{page}.py").run()
    assert [each.value for each in app.exception] == []
    return app


def said(app: AppTest) -> str:
    """Return all that the page says: boxes, captions, headings and HTML."""
    boxes = [*app.info, *app.warning, *app.error, *app.caption, *app.subheader, *app.code]
    return "\n".join([*(str(each.value) for each in boxes), *html(app)])


def html(app: AppTest) -> list[str]:
    return [each.proto.body for each in app.get("html")]


def recommended(app: AppTest) -> str:
    """Return the key on the card of the recommended network."""
    card = next(body for body in html(app) if "nas-key recommended" in body)
    return card.split('nas-key recommended">')[1].split("<")[0]


def charts(app: AppTest) -> list[go.Figure]:
    return [go.Figure(json.loads(each.proto.spec)) for each in app.get("plotly_chart")]


def test_jobs_page_lists_every_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "nas.db")
    failed, running = synthetic_job.fail(store), synthetic_job.begin(store)
    seen = said(visit(store, monkeypatch))
    assert '<span class="nas-pill running">running</span>' in seen
    assert '<span class="nas-pill failed">failed</span>' in seen
    assert "25%" in seen
    assert "lower training.learning_rate" in seen
    assert "Latency · local ≤ 9.00 ms" in seen
    assert seen.index(f"<code>{running}") < seen.index(f"<code>{failed}")  # the newest first


def test_the_front_recommends_by_preference(finished: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = finished
    app = visit(path, monkeypatch, "front", job=job)
    store = open_store(path)
    objectives = synthetic_job.SPEC.objectives
    points = pareto_front(store.evaluations(job, "verify"), objectives)
    third = dict.fromkeys(synthetic_job.TASKS, 1 / 3)
    assert f"{len(points)} networks on the verified front" in said(app)
    assert recommended(app) == recommend(points, [], third, "latency_ms@local").arch.key
    for task, weight in (("seg", 0.0), ("depth", 1.0), ("normals", 0.0)):
        app.slider(f"prefer.{task}").set_value(weight)
    app.run()
    best = min(points, key=lambda row: row.metrics["error.depth"])
    assert recommended(app) == best.arch.key
    figure = charts(app)[0]
    ring = next(trace for trace in figure.data if trace.name == "Recommended")
    assert ring.customdata[0][0] == best.arch.key
    for task in synthetic_job.TASKS:
        app.slider(f"prefer.{task}").set_value(0.0)
    app.run()
    assert "All preferences are zero" in said(app)


def test_a_limit_moves_the_recommendation_and_a_contradiction_is_a_sentence(
    finished: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, job = finished
    app = visit(path, monkeypatch, "front", job=job)
    app.select_slider("limit.latency_ms@local").set_value(20)
    app.run()
    store = open_store(path)
    chosen = next(row for row in store.evaluations(job, "verify") if row.arch.key == recommended(app))
    limit = next(shape for shape in charts(app)[0].layout.shapes).x0
    assert chosen.metrics["latency_ms@local"] <= limit < 9.0
    app.select_slider("limit.latency_ms@local").set_value(0)
    app.select_slider("limit.error.seg").set_value(0)
    app.run()
    assert "No point of the front keeps" in said(app)
    assert not app.exception


def test_axes_can_be_any_metrics(finished: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = finished
    app = visit(path, monkeypatch, "front", job=job)
    app.selectbox("x").set_value("macs")
    app.selectbox("y").set_value("miou.seg")
    app.selectbox("z").set_value("rmse_m.depth")
    app.selectbox("colour").set_value("latency_ms@local")
    app.run()
    scene = charts(app)[0].layout.scene
    assert [axis.title.text for axis in (scene.xaxis, scene.yaxis, scene.zaxis)] == [
        "MACs",
        "mIoU · seg (%)",
        "RMSE · depth (m)",
    ]
    assert not app.exception


def test_the_table_filters(finished: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = finished
    app = visit(path, monkeypatch, "candidates", job=job)
    assert len(app.dataframe[0].value) == 80
    app.segmented_control("show").set_value("Skipped").run()
    assert app.dataframe[0].value["failure"].to_list() == ["its loss was not finite"]
    app.segmented_control("show").set_value("Verified").run()
    assert len(app.dataframe[0].value) == 20


def test_a_network_is_drawn_sampled_and_exported(finished: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = finished
    onnx = open_store(path).artifacts(job, "onnx")[0]
    app = visit(path, monkeypatch, "candidate", job=job, key=str(onnx.key))
    seen = said(app)
    assert f"nas export {job} --arch {onnx.key}" in seen
    assert "Verified, measured on the test split." in seen
    assert "<span>mIoU · seg</span>" in seen
    assert len(app.get("image")) == 1
    assert len(charts(app)[0].layout.shapes) > 20
    names = [button.proto.label for button in app.get("download_button")]
    assert [name.split(" ")[0] for name in names] == [f"{onnx.key}.onnx", f"{onnx.key}.md", f"{onnx.key}.json"]
    other = next(key for key in app.selectbox("network").options if str(onnx.key) not in key)
    app.selectbox("network").set_value(other.split(" ")[0]).run()
    assert f"nas export {job} --arch {other.split(' ')[0]}" in said(app)
    assert app.query_params["key"] in (other.split(" ")[0], [other.split(" ")[0]])


def test_every_page_with_predicted_numbers_says_how_far_they_are_off(
    finished: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, job = finished
    rows = open_store(path).evaluations(job)
    verified = {row.arch.key for row in rows if row.stage == "verify"}
    predicted = next(row.arch.key for row in rows if row.source is Source.PREDICTED and row.arch.key not in verified)
    sentence = "of candidates is predicted, off by 4.6 % on average, 94 % within 10 %, measured on"
    for page, more in (("front", {}), ("candidates", {}), ("candidate", {"key": predicted})):
        assert sentence in said(visit(path, monkeypatch, page, job=job, **more)), page
    assert sentence not in said(visit(path, monkeypatch, "candidate", job=job, key=next(iter(verified))))


def test_a_skipped_network_says_why(finished: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = finished
    skipped = next(row for row in open_store(path).evaluations(job) if row.failure)
    assert "its loss was not finite" in said(visit(path, monkeypatch, "candidate", job=job, key=skipped.arch.key))


def test_curves_predictors_and_log(finished: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, job = finished
    losses, errors = charts(visit(path, monkeypatch, "curves", job=job))
    assert {trace.name for trace in losses.data} == set(synthetic_job.TASKS)
    assert {trace.name for trace in errors.data} == {"largest", "smallest"}
    app = visit(path, monkeypatch, "predictors", job=job)
    assert [(each.label, each.value) for each in app.metric] == [
        ("MAPE", "4.6 %"),
        ("Within ±10 %", "94 %"),
        ("Kendall τ", "0.931"),
        ("Coverage of 90 %", "89 %"),
    ]
    assert "40 subnets on Example CPU" in said(app)
    app = visit(path, monkeypatch, "log", job=job)
    assert "one candidate was skipped" in said(app)
    assert "metric: latency_ms@local" in said(app)
    app.pills("levels").set_value(["error"]).run()
    assert "one candidate was skipped" not in said(app)


def test_a_running_job_says_not_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "nas.db")
    job = synthetic_job.begin(store)
    app = visit(store, monkeypatch)
    for page, expected in (
        ("front", "There is no front yet. The search fills this page as it goes."),
        ("candidates", "No network has been evaluated yet"),
        ("candidate", "No network has been evaluated yet"),
        ("curves", "Loss per task"),
        ("predictors", "Nothing has been measured yet"),
        ("log", "The log is empty"),
    ):
        seen = said(app.switch_page(f"views/{page}.py").run())  # no job named: the newest one
        assert not app.exception
        assert expected in seen
        assert "nas-pill running" in seen
        assert f"<code>{job}</code>" in seen


def test_candidates_are_shown_before_any_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "nas.db")
    job = synthetic_job.search(store)
    app = visit(store, monkeypatch, "front", job=job)
    assert "Networks are verified after the search" in said(app)
    assert "5 candidates so far" in said(app)
    assert not app.select_slider  # a limit has nothing to choose from yet
    assert [trace.name for trace in charts(app)[0].data] == ["Candidates, latency predicted"]
    app.switch_page("views/candidate.py").run()
    assert not app.exception
    assert "Candidate, predicted on the val split. Only verified networks stand on the front." in said(app)
    assert "No sample was drawn of this network" in said(app)
    assert "Run the command to write the ONNX file" in said(app)


def test_a_failed_job_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "nas.db")
    job = synthetic_job.fail(store)
    seen = said(visit(store, monkeypatch, "front", job=job))
    assert "lower training.learning_rate" in seen
    assert "The job ended before any network was evaluated" in seen


def test_an_empty_store_says_how_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "nas.db")
    open_store(store).close()
    assert "There is no job yet" in said(visit(store, monkeypatch))
    assert "holds no job yet" in said(visit(store, monkeypatch, "front"))


def test_what_the_store_does_not_hold_is_a_sentence(
    finished: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, job = finished
    assert "nope" in visit(path, monkeypatch, "front", job="nope").warning[0].value
    assert "evaluated no network nope" in visit(path, monkeypatch, "candidate", job=job, key="nope").warning[0].value
    absent = tmp_path / "absent.db"
    assert len(visit(str(absent), monkeypatch).warning) == 1
    assert not absent.exists()


def test_a_damaged_job_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "nas.db")
    whole, no_spec, no_stage = (synthetic_job.begin(store) for _ in range(3))
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE jobs SET spec = 'none' WHERE id = ?", [no_spec])
        connection.execute("UPDATE stages SET result = '[' WHERE job_id = ?", [no_stage])
        connection.execute("UPDATE curve_points SET value = 'high' WHERE job_id = ?", [whole])
    connection.close()
    seen = said(visit(store, monkeypatch))
    assert f"<code>{whole}</code>" in seen
    assert f"table stages is damaged at job {no_stage}" in seen
    assert "table jobs has 1 damaged row" in seen
    assert "table curve_points has" in said(visit(store, monkeypatch, "curves", job=whole))
    assert f"table jobs is damaged at job {no_spec}" in said(visit(store, monkeypatch, "front", job=no_spec))


def test_a_page_that_cannot_be_drawn_says_where_the_details_are(
    finished: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store of a hostile job: its file of affinities is a folder, and what its evaluations measured is text."""
    store, job = str(tmp_path / "nas.db"), finished[1]
    shutil.copytree(Path(finished[0]).parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("NAS_HOME", str(tmp_path / "home"))
    with sqlite3.connect(store) as connection:
        connection.execute('UPDATE stages SET result = \'{"screening": 5, "test": 5}\' WHERE job_id = ?', [job])
    connection.close()
    for page in ("front", "candidates", "predictors", "curves", "log", "control", "affinity"):
        seen = said(visit(store, monkeypatch, page, job=job))
        assert "Traceback" not in seen


def test_launch_serves_this_machine_and_sends_nothing_home() -> None:
    command = launch.command("sqlite:///nas.db", 8601, browser=False)
    assert command[:5] == [sys.executable, "-P", "-m", "streamlit", "run"]  # -P: no module of the folder stands in for ours
    assert {"--server.headless=true", "--browser.gatherUsageStats=false", "--server.address=localhost"} <= set(command)
    assert command[-3:] == ["--", "--store", "sqlite:///nas.db"]
    assert "--store" not in launch.command(None, 8601, browser=True)


def test_cards_load_neither_torch_nor_ray() -> None:
    code = "import sys, dashboard.shell, dashboard.cards.front; print({'torch', 'ray', 'matplotlib'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "set()"
