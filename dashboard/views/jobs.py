"""Jobs: every job with its state, its stages and its age; live while one runs."""

from __future__ import annotations

from html import escape

import streamlit as st

from dashboard import clock, shell, source, units
from dashboard.cards import progress
from nas.core import JobRecord, JobState

SHOWN = 12  # jobs at first; older ones on request


def objectives(job: JobRecord) -> str:
    """Return the objectives with their limits, as one line."""
    parts = []
    for each in job.spec.objectives:
        sign = "≤" if each.direction == "min" else "≥"
        parts.append(
            units.label(each.metric) + ("" if each.limit is None else f" {sign} {units.number(each.metric, each.limit)}")
        )
    return ", ".join(parts)


def card(job: JobRecord) -> None:
    """Draw one job."""
    time = shell.now()
    took = clock.duration(job, time)
    ran = "" if took is None else f" · ran {clock.span(took)}"
    with st.container(border=True):
        st.html(
            f'<div class="nas-job"><div><b>{escape(job.spec.name)}</b><code>{escape(job.id)}</code></div>'
            f'<div><span class="when">{clock.age(job.created, time)}{ran}</span> &nbsp;{shell.pill(job.state)}</div></div>'
            f'<div class="nas-facts">{escape(shell.facts(job))}<br>Objectives: {escape(objectives(job))}</div>'
        )
        st.html(progress.draw(progress.info(source.stages(job.id), time, job.state in shell.LIVE)))
        if job.error:
            st.error(job.error, icon=":material/error:")
        elif job.state is JobState.INTERRUPTED:
            st.info(
                f"Its process has stopped. Go on where it stood with `nas resume {job.id}`.", icon=":material/pause_circle:"
            )
        with st.container(horizontal=True):
            shell.link("front", "Pareto front", job.id, icon=":material/scatter_plot:")
            shell.link("curves", "Training", job.id, icon=":material/show_chart:")
            shell.link("log", "Log", job.id, icon=":material/article:")


st.html('<div class="nas-head"><div><h1>Jobs</h1></div></div>')
records = source.jobs()
if not records:
    st.info(
        "There is no job yet. `nas demo` runs a small one in a few minutes; `nas init` writes a job file to start from.",
        icon=":material/rocket_launch:",
    )
    st.stop()
everything = len(records) <= SHOWN or st.toggle(f"Show all {len(records)} jobs", key="all")


@shell.fragment(2.0 if any(job.state in shell.LIVE for job in records) else 10.0)
def listing() -> None:
    """Draw the jobs, again and again: new ones turn up by themselves."""
    for job in source.jobs()[: None if everything else SHOWN]:
        try:
            card(job)
        except Exception as error:  # one that cannot be read hides no other
            shell.sentence(error)


listing()
