"""What every page shares: the style, the sidebar, the head of a job's page, and errors as sentences."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from html import escape
from pathlib import Path

import streamlit as st

from dashboard import clock, source
from dashboard.cards import progress
from nas.core import JobRecord, JobState, NasError
from nas.core.unforeseen import unforeseen
from nas.store import log_folders

LIVE = (JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING)
VIEWS = Path(__file__).with_name("views")
PAGES = (  # file, title, icon
    ("front", "Pareto front", ":material/scatter_plot:"),
    ("control", "Control", ":material/tune:"),
    ("candidates", "Candidates", ":material/table_rows:"),
    ("candidate", "Network", ":material/account_tree:"),
    ("curves", "Training", ":material/show_chart:"),
    ("predictors", "Predictors", ":material/target:"),
    ("affinity", "Affinity", ":material/hub:"),
    ("log", "Log and job file", ":material/article:"),
)


def style() -> None:
    """Load the style sheet."""
    st.html(Path(__file__).with_name("style.css"))


def now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


def sentence(error: Exception) -> None:
    """Show an error of ours as what it is, a sentence for the reader; another one as where its details are."""
    if isinstance(error, NasError):
        text = str(error)
        st.warning(text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else "."), icon=":material/info:")
    else:
        st.error(f"This part of the page cannot be drawn: {unforeseen(error, log_folders())}.", icon=":material/error:")


def damages() -> None:
    """Say what of the store could not be read, and is missing on this page."""
    for line in source.damages():
        st.warning(f"{line[:1].upper()}{line[1:]}.", icon=":material/broken_image:")


def fragment(run_every_s: float | None = None) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Return a decorator: the part of a page that is drawn again on its own, every `run_every_s` seconds where given."""

    def decorate(body: Callable[[], None]) -> Callable[[], None]:
        @wraps(body)
        def guarded() -> None:
            try:
                body()
            except Exception as error:
                sentence(error)

        run: Callable[[], None] = st.fragment(guarded, run_every=run_every_s)
        return run

    return decorate


def pill(state: JobState) -> str:
    """Return the HTML of a job's state: a dot and the word."""
    return f'<span class="nas-pill {state.value}">{state.value}</span>'


def view(name: str) -> Path:
    """Return the file of the page `name`."""
    return VIEWS / f"{name}.py"


def link(name: str, label: str, job: str, key: str | None = None, icon: str | None = None) -> None:
    """Draw a link to a page of `job`; the address it leads to can be shared."""
    query = {"job": job} if key is None else {"job": job, "key": key}
    st.page_link(view(name), label=label, icon=icon, query_params=query)


def sidebar() -> None:
    """Draw the way around: all jobs, then the pages of the job at hand."""
    with st.sidebar:
        st.html('<div class="nas-brand"><b>nas</b><span>networks for your tasks,<br>measured on your device</span></div>')
        st.page_link(view("jobs"), label="Jobs", icon=":material/list:")
        name = st.query_params.get("job")
        if name:
            try:
                job = source.job(name)
            except Exception:  # the page says why
                return
            st.html(f'<div class="nas-side"><div>{escape(job.spec.name)}</div><code>{escape(job.id)}</code></div>')
            key = st.query_params.get("key")
            for file, title, icon in PAGES:
                link(file, title, job.id, key if file == "candidate" else None, icon)


def facts(job: JobRecord) -> str:
    """Return one line on what the job is, as text."""
    spec = job.spec
    tasks, devices = ", ".join(task.name for task in spec.tasks), ", ".join(spec.devices)
    parts = [spec.data.name, tasks, f"space {spec.space.name}", devices, f"{spec.search.sampler} search", f"seed {spec.seed}"]
    return " · ".join(parts)


def job_page(title: str) -> JobRecord:
    """Draw the head of a job's page and return the job the address names, else the newest.

    Raises:
        NotFoundError: The store does not hold it.
    """
    job = source.job(st.query_params.get("job") or "latest")
    if st.query_params.get("job") != job.id:
        st.query_params["job"] = job.id

    @fragment(2.0 if job.state in LIVE else None)
    def head() -> None:
        record, time = source.job(job.id), now()
        took = clock.duration(record, time)
        ran = "" if took is None else f" · ran {clock.span(took)}"
        st.html(
            f'<div class="nas-head"><div><h1>{escape(title)}</h1>{pill(record.state)}</div>'
            f"<p><b>{escape(record.spec.name)}</b> <code>{escape(record.id)}</code> · {escape(facts(record))}"
            f" · {clock.age(record.created, time)}{ran}</p></div>"
        )
        if record.state is not JobState.DONE:
            st.html(progress.draw(progress.info(source.stages(record.id), time, record.state in LIVE)))
        if record.error:
            st.error(record.error, icon=":material/error:")
        if record.state in LIVE or record.state is job.state:
            return
        st.rerun()  # the job ended while the reader was looking: the whole page has something new to say

    head()
    return job


def refresh_s(job: JobRecord) -> float | None:
    """Return how often the charts of `job` are drawn again: never, once it has ended."""
    return 4.0 if job.state in LIVE else None
