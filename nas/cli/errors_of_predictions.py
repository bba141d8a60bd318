"""How far what a job predicted was off, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.core import PredictorReport, Stage, StageRecord

SCREENED = "screened on a part of the images, and its agreement with all of them over the candidates that have both"


def predictor_row(report: PredictorReport) -> dict[str, Any]:
    """Return a predictor with its errors on subnets that it was not fitted on; None where one is not known."""
    quality = report.quality
    row: dict[str, Any] = {
        "predicts": report.target,
        "with": report.kind,
        "fitted on": report.rows,
        "held out": report.held_out,
    }
    return row | {name: quality.get(name) for name in ("mape", "within_10", "kendall_tau", "coverage_90")}


def screening_rows(stages: Mapping[Stage, StageRecord]) -> list[dict[str, Any]]:
    """Return how well the part of the images that candidates were screened on stood for all, one row per task's error."""
    found = stages[Stage.SEARCH].result.get("screening", {}) if Stage.SEARCH in stages else {}
    return [
        {"metric": metric, "share": found["share"], "screened": found["screened"], "promoted": found["promoted"]}
        | {name: values.get(name) for name in ("kendall_tau", "mape")}
        for metric, values in found.get("agreement", {}).items()
    ]
