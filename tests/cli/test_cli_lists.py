"""What the listing commands print, as tables, JSON and CSV, and how mistakes end."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cli_place import POINTS, Place, evaluation, make_place
from typer.testing import Result

from nas.core import ArchConfig, PredictorReport, Stage
from nas.service.jobfile import read_job

Nas = Callable[..., Result]


def test_jobs_in_three_forms(nas: Nas, place: Place) -> None:
    rows = json.loads(nas("jobs", "--store", place.url, "--format", "json").stdout)
    assert [(row["id"], row["name"], row["state"]) for row in rows] == [(place.job, "rooms", "done")]
    assert list(rows[0]) == ["id", "name", "state", "created", "started", "ended"]
    table = list(csv.DictReader(io.StringIO(nas("--store", place.url, "jobs", "-f", "csv").stdout)))
    assert table == rows
    shown = nas("jobs", "--store", place.url).stdout
    assert place.job in shown
    assert "rooms" in shown


def test_the_store_of_the_environment_and_the_one_after_the_command(
    nas: Nas, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_STORE", place.url)
    assert place.job in nas("jobs").stdout
    other = str(tmp_path / "no.db")
    assert nas("--store", other, "jobs").exit_code == 2
    assert place.job in nas("--store", other, "jobs", "--store", place.url).stdout


def test_status_shows_stages_and_events(nas: Nas, place: Place) -> None:
    details = json.loads(nas("status", place.job[:4], "--store", place.url, "--format", "json").stdout)
    assert [stage["stage"] for stage in details["stages"]] == [str(stage) for stage in place.store.stages(place.job)]
    assert {stage["state"] for stage in details["stages"]} == {"done"}
    assert details["events"][-1]["message"] == "the front has 3 points"
    shown = nas("status", "--store", place.url).stdout
    assert f"{place.job}  rooms: done" in shown
    assert "verify" in shown
    assert "the front has 3 points" in shown
    stages = list(csv.DictReader(io.StringIO(nas("status", "--store", place.url, "--format", "csv").stdout)))
    assert len(stages) == len(details["stages"])


def test_status_says_how_far_predictions_are_off(nas: Nas, tmp_path: Path) -> None:
    place = make_place(tmp_path)
    words = ("status", "--store", place.url)
    assert "predicted" not in nas(*words).stdout
    report = PredictorReport("latency_ms@local", "gp", 30, 12, {"mape": 0.046, "kendall_tau": 0.93})
    place.store.save_predictor(place.job, report, {})
    agreement = {"error.seg": {"kendall_tau": 0.81, "mape": 0.03, "candidates": 9}}
    screening = {"share": 0.25, "screened": 18, "promoted": 9, "agreement": agreement}
    place.store.finish(place.job, Stage.SEARCH, {"candidates": 9, "failed": 0, "screening": screening})
    details = json.loads(nas(*words, "-f", "json").stdout)
    (predictor,) = details["predictors"]
    assert (predictor["predicts"], predictor["mape"], predictor["held out"], predictor["coverage_90"]) == (
        "latency_ms@local",
        0.046,
        12,
        None,
    )
    assert details["screening"] == [
        {"metric": "error.seg", "share": 0.25, "screened": 18, "promoted": 9, "kendall_tau": 0.81, "mape": 0.03}
    ]
    shown = nas(*words).stdout
    assert all(part in shown for part in ("latency_ms@local", "0.046", "0.93", "screened on a part", "0.81"))
    place.store.close()


def test_the_pareto_json_is_the_documented_contract(nas: Nas, place: Place) -> None:
    points = json.loads(nas("pareto", "latest", "--store", place.url, "--format", "json").stdout)
    assert points == [
        {
            "key": place.archs[i].key,
            "arch": dict(place.archs[i]),
            "metrics": {
                "error.seg": POINTS[i][0],
                "error.depth": POINTS[i][1],
                "latency_ms@local": POINTS[i][2],
                "miou.seg": 100 * (1 - POINTS[i][0]),
            },
            "source": "measured",
            "device": "feed",
        }
        for i in (0, 1, 2)  # not the dominated one, not the one beyond the limit, nothing predicted
    ]


def test_a_metric_that_is_no_number_is_null_for_programs(nas: Nas, tmp_path: Path) -> None:
    """A task that no objective needs may be without labels; whoever reads the front must be able to parse it all the same."""
    place = make_place(tmp_path)
    row = evaluation(ArchConfig({"encoder.0.width": 0.3}), (0.2, 0.2, 0.5), "verify")
    place.store.add(place.job, [replace(row, metrics={**row.metrics, "error.side": math.nan})])
    text = nas("pareto", "--store", place.url, "--format", "json").stdout
    points = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert points[0]["metrics"]["error.side"] is None
    table = list(csv.DictReader(io.StringIO(nas("pareto", "--store", place.url, "-f", "csv").stdout)))
    assert (table[0]["error.side"], table[0]["miou.seg"]) == ("", "80.0")
    place.store.close()


def test_the_pareto_table_and_csv_have_the_same_points(nas: Nas, place: Place) -> None:
    rows = list(csv.DictReader(io.StringIO(nas("pareto", "--store", place.url, "-f", "csv").stdout)))
    assert list(rows[0]) == ["key", "error.seg", "error.depth", "latency_ms@local", "miou.seg", "source", "device", "arch"]
    assert [row["key"] for row in rows] == [place.archs[i].key for i in (0, 1, 2)]
    assert [json.loads(row["arch"]) for row in rows] == [dict(place.archs[i]) for i in (0, 1, 2)]
    lines = nas("pareto", "--store", place.url).stdout.splitlines()
    first_words = [line.split()[0] for line in lines if line.split()]
    assert [word for word in first_words if len(word) == len(place.archs[0].key)] == [row["key"] for row in rows]


def test_devices_lists_the_built_in_ones(nas: Nas) -> None:
    rows = json.loads(nas("devices", "--format", "json").stdout)
    assert "local" in [row["name"] for row in rows]
    assert list(rows[0]) == ["name", "description", "provider", "threads", "resource"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["status", "nosuch"], "nosuch"),
        (["pareto", "nosuch"], "nosuch"),
        (["cancel", "nosuch"], "nosuch"),
        (["resume", "nosuch"], "nosuch"),
        (["watch", "nosuch"], "nosuch"),
        (["optuna", "nosuch", "--storage", "sqlite:///x.db"], "nosuch"),
        (["export", "--arch", "00", "--limit", "macs<=3"], "not both"),
        (["export", "--limit", "macs=3"], "METRIC<=NUMBER"),
        (["export", "--prefer", "sge=1"], "did you mean 'seg'?"),
        (["profile", "no.yaml"], "no.yaml"),
        (["run", "no.yaml"], "nas init no.yaml"),
        (["submit", "."], "cannot"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(nas: Nas, place: Place, words: list[str], part: str) -> None:
    result = nas(*words, "--store", place.url)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert part in result.stderr


@pytest.mark.parametrize("words", [["jobs"], ["status"], ["pareto"], ["watch"], ["cancel"], ["export"]])
def test_reading_makes_no_store(nas: Nas, tmp_path: Path, words: list[str]) -> None:
    result = nas(*words, "--store", tmp_path / "typo.db")
    assert result.exit_code == 2
    assert "typo.db" in result.stderr
    assert not (tmp_path / "typo.db").exists()


@pytest.mark.parametrize("words", [["nosuch"], ["jobs", "--format", "xml"], ["optuna"], ["run"], ["dashboard", "--port", "0"]])
def test_wrong_usage_is_exit_code_2(nas: Nas, words: list[str]) -> None:
    result = nas(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_init_writes_a_file_that_runs_and_replaces_none_unasked(nas: Nas) -> None:
    result = nas("init", "rooms.yaml")
    assert (result.exit_code, result.stdout) == (0, "rooms.yaml\n")
    assert read_job(Path("rooms.yaml")).name == "rooms"
    Path("rooms.yaml").write_text("mine")
    result = nas("init", "rooms.yaml")
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert Path("rooms.yaml").read_text() == "mine"
    assert nas("init", "rooms.yaml", "--force").exit_code == 0
    assert read_job(Path("rooms.yaml")).name == "rooms"
    assert nas("init").stdout == "job.yaml\n"
    for words in (["init", "."], ["init", "nowhere/job.yaml"]):
        result = nas(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: init writes")
