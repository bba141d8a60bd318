"""Progress of a job on standard error: bars where a person watches a terminal, a line now and then where nobody does."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

import typer

from nas.cli.fronts import measured_front
from nas.core import JobRecord, JobState, NasError, Stage, StageRecord, StageState, Store

if TYPE_CHECKING:
    from rich.console import RenderableType

ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.INTERRUPTED)
POLL_S = 1.0
LINE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is shown of a job at one moment.

    Attributes:
        event: The last line of its log.
        front: Number of measured points on its front.
        remaining_s: Seconds that each running stage still takes, where that can be told.
    """

    job: JobRecord
    stages: Mapping[Stage, StageRecord]
    event: str
    front: int
    remaining_s: Mapping[Stage, float]


@dataclass
class Pace:
    """How fast stages go, from what was seen of them here: a resumed stage does not count what it found done."""

    _first: dict[Stage, tuple[float, int]] = field(default_factory=dict)

    def remaining_s(self, stage: StageRecord, now: float) -> float | None:
        """Return the seconds that a running stage still takes, or None before it has moved.

        Args:
            stage: As the store has it.
            now: Monotonic seconds.
        """
        if stage.state is not StageState.RUNNING or stage.total <= 0:
            self._first.pop(stage.stage, None)
            return None
        began, done = self._first.setdefault(stage.stage, (now, stage.done))
        if stage.done < done:  # the stage started again
            self._first[stage.stage] = (now, stage.done)
            return None
        if stage.done == done or now <= began:
            return None
        return (stage.total - stage.done) * (now - began) / (stage.done - done)


class Observer:
    """Reads snapshots of one job; recounts the front only where candidates were added."""

    def __init__(self, store: Store, job: str) -> None:
        self._store, self._job, self._pace = store, job, Pace()
        self._counted: tuple[tuple[int, StageState], ...] | None = None
        self._front = 0

    def state(self) -> JobState:
        """Return where the job stands."""
        return self._store.job(self._job).state

    def look(self) -> Snapshot:
        """Return the job as it is now."""
        record, stages, now = self._store.job(self._job), self._store.stages(self._job), time.monotonic()
        counted = tuple((stages[s].done, stages[s].state) for s in (Stage.SEARCH, Stage.VERIFY) if s in stages)
        if counted != self._counted and any(done for done, _ in counted):
            self._counted, self._front = counted, len(measured_front(self._store, record))
        events = self._store.events(self._job, last=1)
        remaining = {name: self._pace.remaining_s(stage, now) for name, stage in stages.items()}
        known = {name: seconds for name, seconds in remaining.items() if seconds is not None}
        return Snapshot(record, stages, events[-1].message if events else "", self._front, known)


def render(shot: Snapshot) -> RenderableType:
    """Return a snapshot for a terminal: a bar per stage, then the front and the last event."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    marks = {StageState.WAITING: "·", StageState.RUNNING: "▸", StageState.DONE: "✓", StageState.FAILED: "✗"}
    grid = Table.grid(padding=(0, 1))
    for name, stage in shot.stages.items():
        done = stage.state is StageState.DONE
        total = stage.total or 1
        bar = ProgressBar(total=total, completed=total if done else stage.done, width=30)
        note = duration(shot.remaining_s[name]) + " left" if name in shot.remaining_s else ""
        grid.add_row(marks[stage.state], str(name), bar, Text(_count(stage)), Text(note), Text(stage.note, style="dim"))
    return Group(Text(f"{shot.job.id}  {shot.job.spec.name}: {shot.job.state}", style="bold"), grid, Text(_footer(shot)))


def plain(stage: StageRecord, shot: Snapshot) -> str:
    """Return one line of text about a stage."""
    parts = [f"{stage.stage}: {stage.state}", _count(stage)]
    if stage.stage in shot.remaining_s:
        parts.append(f"{duration(shot.remaining_s[stage.stage])} left")
    if shot.front and stage.stage in (Stage.SEARCH, Stage.VERIFY):
        parts.append(f"front of {shot.front}")
    return ", ".join(part for part in (*parts, stage.note) if part)


def duration(seconds: float) -> str:
    """Return ``45 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _count(stage: StageRecord) -> str:
    return f"{stage.done}/{stage.total} {stage.unit}".strip() if stage.total else ""


def _footer(shot: Snapshot) -> str:
    front = f"front: {shot.front} measured points" if shot.front else ""
    return "   ".join(part for part in (front, shot.event) if part)


class Progress:
    """Shows a job while the block under ``with`` runs, from a thread that reads the store and writes nothing to it.

    A job that is resumed is shown although it had ended before; `wait` is for jobs that run elsewhere.
    """

    def __init__(self, store: Store, job: str) -> None:
        self._observer = Observer(store, job)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self) -> None:
        """Return when the job has ended, wherever it runs."""
        while self._thread.is_alive() and self._observer.state() not in ENDED:
            self._thread.join(POLL_S)

    def _show(self) -> None:
        show = _show_bars if sys.stderr.isatty() else _show_lines
        try:
            show(self._observer, self._stop)
        except NasError as error:  # the job goes on without its picture
            typer.echo(f"progress cannot be shown: {error}", err=True)


def _show_bars(observer: Observer, stop: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        while True:
            last = stop.is_set()
            shot = observer.look()
            live.update(render(shot), refresh=True)
            if last:
                return
            stop.wait(POLL_S)


def _show_lines(observer: Observer, stop: threading.Event) -> None:
    states: dict[Stage, StageState] = {}
    spoken = time.monotonic()
    while True:
        last = stop.is_set()
        shot = observer.look()
        due = time.monotonic() - spoken >= LINE_EVERY_S
        for name, stage in shot.stages.items():
            changed = states.get(name, StageState.WAITING) is not stage.state
            if changed or (due and stage.state is StageState.RUNNING):
                typer.echo(plain(stage, shot), err=True)
                spoken = time.monotonic()
            states[name] = stage.state
        if last:
            return
        stop.wait(POLL_S)
