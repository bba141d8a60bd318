"""Log: what happened, and the job as it was asked for."""

from __future__ import annotations

from html import escape

import streamlit as st

from dashboard import shell, source
from dashboard.cards import jobfile

LEVELS = ("info", "warning", "error")
SHOWN = 500  # newest lines

job = shell.job_page("Log and job file")
log, file = st.columns([3, 2], gap="large")


@shell.fragment(shell.refresh_s(job))
def lines() -> None:
    """Draw the log, the newest line first."""
    st.subheader("Log")
    events = source.events(job.id)
    if not events:
        st.info("The log is empty: the job has not started.", icon=":material/hourglass_empty:")
        return
    chosen = st.pills("Levels", LEVELS, selection_mode="multi", default=LEVELS, key="levels", label_visibility="collapsed")
    rows = [event for event in reversed(events) if event.level in chosen][:SHOWN]
    st.html(
        '<div class="nas-log">'
        + "".join(
            f'<div class="{escape(each.level)}"><time>{each.time:%b %d, %H:%M:%S}</time><em>{escape(each.level)}</em>'
            f"<span>{escape(each.message)}</span></div>"
            for each in rows
        )
        + "</div>"
    )
    st.caption(f"{len(rows)} of {len(events)} lines, the newest first; times are UTC.")


with log:
    lines()
with file:
    st.subheader("Job")
    form = st.segmented_control(
        "Format", ["YAML", "JSON"], default="YAML", required=True, key="form", label_visibility="collapsed"
    )
    spec = jobfile.info(job.spec)
    if form == "JSON":
        st.json(spec)
    else:
        text = jobfile.draw(spec)
        st.code(text, language="yaml", wrap_lines=True)
        st.download_button("Download YAML", text, file_name=f"{job.id}.yaml", icon=":material/download:", on_click="ignore")
