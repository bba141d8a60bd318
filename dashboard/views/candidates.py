"""Candidates: every architecture the job looked at, to sort, to filter and to take away."""

from __future__ import annotations

import streamlit as st

from dashboard import shell, source, units
from dashboard.cards import candidates as card
from dashboard.cards import predictor
from dashboard.cards.predictor import UNKNOWN
from nas.core.refinement import VERIFIED_STAGES

OFF = "Standard deviation of the prediction: the predictor's error on subnets that it was not fitted on"

job = shell.job_page("Candidates")


@shell.fragment(shell.refresh_s(job))
def body() -> None:
    """Draw the table."""
    frame = card.info(source.evaluations(job.id), job.spec.objectives)
    if frame.empty:
        st.info("No network has been evaluated yet. The search fills this table as it goes.", icon=":material/hourglass_empty:")
        return
    filters = {
        "All": slice(None),
        "Front": frame["on_front"],
        "Verified": frame["stage"].isin([card.STAGES[stage] for stage in VERIFIED_STAGES]),
        "Candidates": frame["stage"].isin(["candidate", "reused candidate"]),
        "Skipped": frame["failure"] != "",
    }
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        chosen = st.segmented_control("Show", list(filters), default="All", required=True, key="show", bind="query-params")
        st.download_button(
            "Download CSV",
            card.csv(frame),
            file_name=f"nas-{job.id}-candidates.csv",
            mime="text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
    shown = frame[filters[chosen]]
    metrics = [name for name in frame.columns if name in shown and (name.partition("@")[0].partition(".")[0] in units.KINDS)]
    columns = {
        "key": st.column_config.TextColumn("Key", pinned=True),
        "on_front": st.column_config.CheckboxColumn("Front", help="On the verified Pareto front"),
        "stage": st.column_config.TextColumn("Stage"),
        "source": st.column_config.TextColumn("Latency", help="Measured, or predicted by the fitted latency predictor"),
        "failure": st.column_config.TextColumn("Skipped because"),
    }
    for name in metrics:
        form, meaning = units.column_format(name), units.kind(name).meaning
        columns[name] = st.column_config.NumberColumn(units.axis_title(name), format=form, help=meaning or None)
    for name in [name for name in frame.columns if name.startswith("off.")]:
        metric = name.removeprefix("off.")
        title = f"± {units.axis_title(metric)}"
        columns[name] = st.column_config.NumberColumn(title, format=units.column_format(metric), help=OFF)
        at = metrics.index(metric) + 1
        metrics[at:at] = [name] if shown[name].notna().any() else []
    order = ["key", "on_front", "stage", "source", *metrics]
    order += ["failure"] if (shown["failure"] != "").any() else []
    event = st.dataframe(
        shown,
        hide_index=True,
        column_order=order,
        column_config=columns,
        height=min(640, 38 + 35 * max(1, len(shown))),
        on_select="rerun",
        selection_mode="single-row",
        key="table",
    )
    rows = event["selection"]["rows"] if event else []
    if rows and rows[0] < len(shown):
        key = str(shown.iloc[rows[0]]["key"])
        shell.link("candidate", f"Open {key}", job.id, key, ":material/arrow_forward:")
    else:
        if (shown["source"] == "predicted").any():
            reports = [report for report in source.predictors(job.id) if report.target.startswith("latency_ms@")]
            st.caption(predictor.trust(reports, set(metrics)) or UNKNOWN)
        st.caption(f"{len(shown)} of {len(frame)} architectures. Click a column to sort by it; tick a row to open its network.")


body()
