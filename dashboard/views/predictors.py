"""Predictors: how far to trust a predicted cost, and the measurements it was fitted on."""

from __future__ import annotations

import streamlit as st

from dashboard import palette, shell, source, units
from dashboard.cards import predictor as card
from dashboard.cards import profiles
from nas.core import Stage

job = shell.job_page("Predictors")
reports, measured = source.predictors(job.id), source.profiles(job.id)
if not reports and not measured:
    st.info(
        "Nothing has been measured yet. The profile stage measures subnets, and the fit stage fits to them.",
        icon=":material/hourglass_empty:",
    )
for report in reports:
    st.subheader(units.label(report.target))
    st.caption(
        f"{report.kind}, fitted on {report.rows} subnets; its error was measured on {report.held_out} that it never saw."
    )
    chart, numbers = st.columns([7, 2.6], gap="large")
    with chart:
        if report.truth:
            st.plotly_chart(
                card.draw(card.info(report), report.target), key=f"predictor.{report.target}", config=palette.CONFIG
            )
        else:
            st.info("The held-out values of this predictor were not stored.", icon=":material/info:")
    with numbers:
        for title, value, meaning in card.verdict(report):
            st.metric(title, value, help=meaning)
stages = source.stages(job.id)
screened = card.screening(stages)
if not screened.empty:
    found = stages[Stage.SEARCH].result["screening"]
    st.subheader("Screening")
    share = f"{100 * found['share']:.0f} %"
    st.caption(
        f"{found['screened']} candidates were scored on {share} of the images, {found['promoted']} of them on all: "
        "how the part orders those, and how far it is off."
    )
    st.dataframe(screened, hide_index=True, height="content")
for device in sorted({each.device for each in measured}):
    frame = profiles.info(measured, device)
    st.subheader(f"Measured on {device}")
    prints = {each.fingerprint for each in measured if each.device == device}
    machines = "; ".join(
        f"{each.cpu}, {each.cores} cores, ONNX Runtime {each.onnxruntime}, {each.provider}, threads: {each.threads}"
        for each in prints
    )
    st.caption(f"{len(frame)} subnets on {machines}. Bars tell how far the three fastest parts of a measurement differ.")
    costs = [name for name in ("macs", "params", "size_bytes", "peak_bytes") if name in frame]
    if costs:
        cost = st.segmented_control(
            "Over", costs, default=costs[0], required=True, format_func=units.label, key=f"over.{device}"
        )
        st.plotly_chart(profiles.draw(frame, cost), key=f"profile.{device}", config=palette.CONFIG)
