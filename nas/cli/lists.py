"""Commands that print what is known: jobs, one job, its front, the devices."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import typer

from nas.cli.errors_of_predictions import SCREENED, predictor_row, screening_rows
from nas.cli.fronts import columns, contract, measured_front
from nas.cli.options import FormatOption, JobArgument, StoreOption, opened
from nas.cli.tables import json_text, show
from nas.core import JobRecord, StageRecord


def jobs(ctx: typer.Context, form: FormatOption = "table", store: StoreOption = None) -> None:
    """List the jobs, the newest first."""
    rows = [_job_row(job) for job in opened(ctx, store).jobs()]
    show(rows, form, empty="no jobs yet: write a job file with nas init, then nas run it; or try nas demo")


def status(ctx: typer.Context, job: JobArgument = "latest", form: FormatOption = "table", store: StoreOption = None) -> None:
    """Show where a job stands: its stages, how far its predictions are off, and its last events."""
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    stages = [_stage_row(stage) for stage in opened_store.stages(record.id).values()]
    events = [
        {"time": _time(event.time), "level": event.level, "message": event.message} for event in opened_store.events(record.id)
    ]
    predictors = [predictor_row(report) for report, _ in opened_store.predictors(record.id)]
    screening = screening_rows(opened_store.stages(record.id))
    if form == "json":
        details = {**_job_row(record), "folder": str(record.folder), "error": record.error, "stages": stages, "events": events}
        details |= {"predictors": predictors, "screening": screening}
        typer.echo(json_text(details, sys.stdout))
    elif form == "csv":
        show(stages, form)
    else:
        typer.echo(f"{record.id}  {record.spec.name}: {record.state}" + (f" ({record.error})" if record.error else ""))
        show(stages, form)
        for title, rows in (("what is predicted, and its error on held-out subnets", predictors), (SCREENED, screening)):
            if rows:
                typer.echo(title)
                show(rows, form)
        for event in events[-5:]:
            typer.echo(f"{event['time']}  {event['level']:<7}  {event['message']}")


def pareto(ctx: typer.Context, job: JobArgument = "latest", form: FormatOption = "table", store: StoreOption = None) -> None:
    """Print the measured Pareto front of a job, the cheapest point first."""
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    points = measured_front(opened_store, record)
    if form == "json":
        show([contract(point) for point in points], form)
    elif form == "csv":
        flat = [columns(point, record) | {"source": str(point.source), "device": point.device} for point in points]
        names = list(dict.fromkeys(name for row in flat for name in row))  # rows may lack a metric
        archs = [dict(point.arch) for point in points]
        show([{name: row.get(name) for name in names} | {"arch": arch} for row, arch in zip(flat, archs, strict=True)], form)
    else:
        objectives = [objective.metric for objective in record.spec.objectives]
        rows = [{"key": point.arch.key} | {name: point.metrics[name] for name in objectives} for point in points]
        show(rows, form, empty=f"job {record.id} ({record.state}) has no measured point yet; see nas status {record.id}")


def devices(form: FormatOption = "table") -> None:
    """List the devices that a job can name."""
    from hw_profiles.devices import list_devices

    rows = [
        {
            "name": device.name,
            "description": device.description,
            "provider": device.provider,
            "threads": device.threads,
            "resource": device.resource,
        }
        for device in list_devices()
    ]
    show(rows, form)


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="seconds")


def _job_row(job: JobRecord) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.spec.name,
        "state": str(job.state),
        "created": _time(job.created),
        "started": _time(job.started),
        "ended": _time(job.ended),
    }


def _stage_row(stage: StageRecord) -> dict[str, Any]:
    return {
        "stage": str(stage.stage),
        "state": str(stage.state),
        "done": stage.done,
        "total": stage.total,
        "unit": stage.unit,
        "started": _time(stage.started),
        "ended": _time(stage.ended),
        "note": stage.note,
    }
