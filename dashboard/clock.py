"""Ages and remaining times, for people."""

from __future__ import annotations

from datetime import datetime

from nas.core import JobRecord, StageRecord, StageState


def span(seconds: float) -> str:
    """Return a duration with at most two units: ``48 s``, ``3 min 20 s``, ``2 h 05 min``, ``4 d 3 h``."""
    whole = max(0, round(seconds))
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{left} s"


def age(time: datetime, now: datetime) -> str:
    """Return how long ago `time` was, in its largest unit: ``just now``, ``5 min ago``, ``3 d ago``."""
    seconds = (now - time).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def eta(stage: StageRecord, now: datetime) -> float | None:
    """Return the seconds that a running stage still needs at its mean pace; None before the pace is known."""
    if stage.state is not StageState.RUNNING or stage.started is None or not 0 < stage.done <= stage.total:
        return None
    elapsed = (now - stage.started).total_seconds()
    return max(0.0, elapsed / stage.done * (stage.total - stage.done))


def duration(job: JobRecord, now: datetime) -> float | None:
    """Return the seconds a job has run, up to `now` where it still runs; None before it started."""
    return None if job.started is None else ((job.ended or now) - job.started).total_seconds()
