"""Commands that make a job go: run, submit, watch, cancel, resume, demo.

What a person reads goes to standard error; the last line on standard output is the job's id.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.fronts import measured_front
from nas.cli.options import JobArgument, StoreOption, opened
from nas.cli.progress import Progress
from nas.cli.tables import show
from nas.cli.trusting import ask
from nas.core import CancelledError, JobId, JobSpec, JobState, NasError, Store

JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="Job file; nas init writes one.")]


def run(ctx: typer.Context, job_file: JobFile, store: StoreOption = None) -> None:
    """Run a job here, with progress, and print its id."""
    from nas.service.jobfile import load_job

    spec = load_job(job_file)
    from nas.service import api  # a mistake in the file is said without waiting for it

    opened_store = opened(ctx, store, create=True)
    _say_idle(spec)
    _drive(opened_store, api.create(opened_store, spec))


def submit(ctx: typer.Context, job_file: JobFile, store: StoreOption = None) -> None:
    """Start a job in the background and print its id at once."""
    from nas.service.jobfile import load_job

    spec = load_job(job_file)
    from nas.service import api  # a mistake in the file is said without waiting for it

    job = api.submit(opened(ctx, store, create=True), spec)
    _say_idle(spec)
    typer.echo(f"Started. Next: nas watch {job}", err=True)
    typer.echo(job)


def _say_idle(spec: JobSpec) -> None:
    from nas.service.idle import idle_options

    for sentence in idle_options(spec):
        typer.echo(f"note: {sentence}", err=True)


def watch(ctx: typer.Context, job: JobArgument = "latest", store: StoreOption = None) -> None:
    """Show a job's progress until it ends; Ctrl-C ends the watching, not the job."""
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    with Progress(opened_store, record.id) as progress:
        progress.wait()
    _ending(opened_store, record.id)


def cancel(ctx: typer.Context, job: JobArgument = "latest", store: StoreOption = None) -> None:
    """Stop a job; what it has done is kept, and nas resume goes on."""
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    from nas.service import api

    api.cancel(opened_store, record.id)
    typer.echo(f"{record.id} is {opened_store.job(record.id).state}", err=True)
    typer.echo(record.id)


def resume(
    ctx: typer.Context,
    job: JobArgument = "latest",
    background: Annotated[bool, typer.Option("--background", help="Return at once; the job goes on.")] = False,
    store: StoreOption = None,
) -> None:
    """Go on with a job that was cancelled, interrupted or failed, where it stood."""
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    ask(record.spec)
    if background:
        from nas.service import api

        api.resume_in_background(opened_store, record.id)
        typer.echo(record.id)
    else:
        _drive(opened_store, record.id)


def demo(ctx: typer.Context, store: StoreOption = None) -> None:
    """Run a small job from end to end on generated scenes: train, search, measure, export."""
    from nas.service import api

    spec = api.demo_spec()
    opened_store = opened(ctx, store, create=True)
    job = api.create(opened_store, spec)
    _drive(opened_store, job, say_id=False)
    record = opened_store.job(job)
    points = measured_front(opened_store, record)
    objectives = [objective.metric for objective in record.spec.objectives]
    show(
        [{"key": p.arch.key} | {name: p.metrics[name] for name in objectives} for p in points],
        "table",
        out=sys.stderr,
    )
    url = store or ctx.obj
    typer.echo(f"See all of it: nas dashboard{f' --store {url}' if url else ''}", err=True)
    try:
        path = api.export(opened_store, job, key=None, limits=[], preference=None, out=None)
        typer.echo(f"Exported the recommended point: {path}", err=True)
    finally:
        typer.echo(job)


def _drive(store: Store, job: JobId, say_id: bool = True) -> None:
    """Run a job in this process; end with its id on standard output, whatever becomes of it."""
    from nas.service import api

    try:
        # Ray prints the death of a worker on standard output, which belongs to what this command answers.
        with Progress(store, job), contextlib.redirect_stdout(sys.stderr):
            api.run(store, job)
        _ending(store, job)
    except KeyboardInterrupt:  # before it ran, or after: whoever runs a job takes care of its state
        raise CancelledError(f"interrupted; nas resume {job} goes on where it stood") from None
    finally:
        if say_id:
            typer.echo(job)


def _ending(store: Store, job: JobId) -> None:
    """Raise where a job did not end well."""
    record = store.job(job)
    if record.state is JobState.FAILED:
        raise NasError(f"job {job} failed: {record.error or 'see nas status'}; mend it, then nas resume {job}")
    if record.state in (JobState.CANCELLED, JobState.INTERRUPTED):
        raise CancelledError(f"job {job} is {record.state}; nas resume {job} goes on where it stood")
    typer.echo(f"{job} is {record.state}: nas pareto {job} prints its front of {len(measured_front(store, record))}", err=True)
