"""Pareto front: choose axes, say what matters, and get one network named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

import pandas as pd
import streamlit as st

from dashboard import palette, shell, source, units
from dashboard.cards import front as card
from dashboard.cards import predictor
from dashboard.cards.predictor import UNKNOWN
from nas.core import JobState, Objective, ObjectiveError, recommend
from nas.core import front as pareto_front
from nas.core.preference import measured_tasks
from nas.core.refinement import verified as measured_in_full

NONE = "none"
STEPS = 100  # of a limit's slider
job = shell.job_page("Pareto front")


def is_cost(metric: str) -> bool:
    """Return whether a metric is a cost rather than the quality of a task."""
    return "." not in metric and metric != "delta_m"


def choose(names: list[str]) -> card.View:
    """Draw the four selectors of axes and return what they say."""
    asked = [each.metric for each in job.spec.objectives if each.metric in names]
    costs = [metric for metric in asked if is_cost(metric)]
    x_first = next((metric for metric in costs if metric.startswith("latency_ms")), (costs or names)[0])
    y_first = next((metric for metric in asked if not is_cost(metric)), next(metric for metric in names if metric != x_first))

    def title(name: str) -> str:
        return "None" if name == NONE else units.label(name)

    x, y, z, colour = st.columns(4)
    optional = [NONE, *names]
    with x:
        chosen_x = st.selectbox("Horizontal", names, names.index(x_first), format_func=title, key="x", bind="query-params")
    with y:
        chosen_y = st.selectbox("Vertical", names, names.index(y_first), format_func=title, key="y", bind="query-params")
    with z:
        chosen_z = st.selectbox("Third axis", optional, format_func=title, key="z", bind="query-params")
    with colour:
        chosen = st.selectbox("Colour", optional, format_func=title, key="colour", bind="query-params")
    return card.View(chosen_x, chosen_y, None if chosen_z == NONE else chosen_z, None if chosen == NONE else chosen)


def preferences(tasks: list[str]) -> dict[str, float]:
    """Draw a slider per task and return weights that sum to one; empty where all are zero."""
    st.html('<div class="nas-card-title">What matters</div>')
    given = {task: st.slider(task, 0.0, 1.0, 0.5, 0.05, key=f"prefer.{task}", bind="query-params") for task in tasks}
    total = sum(given.values())
    return {task: weight / total for task, weight in given.items()} if total else {}


def limit(each: Objective, values: pd.Series[float]) -> Objective:
    """Draw the slider of an objective over the measured `values` and return the objective with the limit it says."""
    low, high = float(values.min()), float(values.max())
    if each.limit is not None:
        low, high = min(low, each.limit), max(high, each.limit)

    def at(step: int) -> float:
        return low + (high - low) * step / STEPS

    minimised = each.direction == "min"
    loosest = STEPS if minimised else 0
    first = loosest if each.limit is None else round((each.limit - low) / (high - low) * STEPS)
    step = st.select_slider(
        f"{units.label(each.metric)} {'≤' if minimised else '≥'}",
        range(STEPS + 1),
        first,
        format_func=lambda step: units.number(
            each.metric, each.limit if step == first and each.limit is not None else at(step)
        ),
        key=f"limit.{each.metric}",
        help=units.kind(each.metric).meaning or None,
    )
    if step == first:
        return each  # not moved: the job's own limit holds, to the last digit
    return replace(each, limit=None if step == loosest else at(step))


def loosest(own: Objective, now: Objective) -> Objective:
    """Return the looser of the job's limit and the slider's: a tighter slider does not change how errors are scaled."""
    loosened = own.limit is not None and (now.limit is None or own.violation(now.limit) > 0)
    return now if loosened else own


def limits(frame: pd.DataFrame) -> list[Objective]:
    """Draw the sliders of every objective that varies, three in a row, and return the objectives with their limits."""
    st.html('<div class="nas-card-title">Limits</div>')
    shown = frame[frame["group"].isin([*card.ON_FRONT, "verified"])]
    found, columns, at = [], st.columns(3, gap="medium"), 0
    for each in job.spec.objectives:
        values = shown[each.metric].dropna() if each.metric in shown else pd.Series(dtype=float)
        if len(values) == 0 or values.min() == values.max():
            found.append(each)
            continue
        with columns[at % 3]:
            found.append(limit(each, values))
        at += 1
    return found


def summary(title: str, css: str, row: pd.Series[float], names: Sequence[str], off: Mapping[str, float]) -> None:
    """Draw a point's card: its key, its metrics (predicted ones with their error) and the link to its page."""
    key = str(row["key"])
    errors = off if str(row["group"]) == "predicted" else None
    lines = "".join(
        f"<span>{escape(units.label(name))}</span>"
        f"<b>{escape(units.number(name, float(row[name])) + card.error_of(name, errors or {}))}</b>"
        for name in names
        if name in row and pd.notna(row[name])
    )
    with st.container(border=True, key=css):
        st.html(
            f'<div class="nas-card-title">{title}</div><div class="nas-key {css}">{escape(key)}</div>'
            f'<div class="nas-metrics">{lines}</div>'
        )
        shell.link("candidate", "Open this network", job.id, key, ":material/arrow_forward:")


def headline(names: list[str]) -> list[str]:
    """Return what a card shows: each task's metrics in their own units (its error where it has none), then the costs."""
    tasks = [task.name for task in job.spec.tasks]
    quality = {task: [name for name in names if name.endswith(f".{task}") and not name.startswith("error.")] for task in tasks}
    own = [name for task in tasks for name in quality[task] or [f"error.{task}"]]
    return (
        own
        + (["delta_m"] if "delta_m" in names else [])
        + [each.metric for each in job.spec.objectives if is_cost(each.metric)]
    )


@shell.fragment(shell.refresh_s(job))
def body() -> None:
    """Draw the chart and its controls; a moved slider draws only this again."""
    evaluations = source.evaluations(job.id)
    objectives = job.spec.objectives
    frame = card.info(evaluations, objectives)
    reports = [report for report in source.predictors(job.id) if report.target.startswith("latency_ms@")]
    off = predictor.off(reports)
    names = units.order(set(frame.columns) - {"key", "group"}, tuple(each.metric for each in objectives))
    if len(names) < 2:
        why = (
            "The search fills this page as it goes."
            if job.state in shell.LIVE
            else "The job ended before any network was evaluated."
        )
        st.info(f"There is no front yet. {why}", icon=":material/hourglass_empty:")
        return
    chart, side = st.columns([7, 2.6], gap="large")
    verified = [row for row in measured_in_full(evaluations) if not row.failure]
    with chart:
        view = choose(names)
        drawing = st.container()
        limited = limits(frame) if verified else list(objectives)
    known = measured_tasks(verified)
    tasks = [task.name for task in job.spec.tasks if task.name in known]
    with side:
        cards = st.container()
        weights = preferences(tasks) if verified else {}
    frame = card.info(evaluations, limited)
    cost = next((each.metric for each in reversed(objectives) if is_cost(each.metric)), "macs")
    recommended, why_none = None, ""
    if not verified:
        ended = job.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
        why_none = (
            "No network was verified, so none is recommended."
            if ended
            else "Networks are verified after the search; then one is recommended here."
        )
    elif not weights:
        why_none = "All preferences are zero: give at least one task some weight, and a network is recommended here."
    else:
        try:
            points = pareto_front(verified, [loosest(each, now) for each, now in zip(objectives, limited, strict=True)])
            recommended = recommend(points, [each for each in limited if each.limit is not None], weights, cost).arch.key
        except ObjectiveError as error:
            why_none = f"{str(error)[:1].upper()}{str(error)[1:]}. Loosen a limit below the chart."
    picked = st.session_state.get("picked")
    picked = picked if picked != recommended and picked in set(frame["key"]) else None
    with drawing:
        event = st.plotly_chart(
            card.draw(frame, replace(view, recommended=recommended, picked=picked), limited, off),
            key="chart",
            on_select="rerun",
            selection_mode="points",
            config=palette.CONFIG,
        )
        clicked = next((point["customdata"][0] for point in event["selection"]["points"] if point.get("customdata")), None)
        if clicked is not None and clicked != st.session_state.get("picked"):
            st.session_state["picked"] = clicked
            st.rerun(scope="fragment")
        counts = frame["group"].value_counts()
        on_front = sum(counts.get(group, 0) for group in card.ON_FRONT)
        candidates = counts.get("measured", 0) + counts.get("predicted", 0)
        st.caption(
            f"{on_front} networks on the verified front, {counts.get('verified', 0)} verified beside it, "
            f"{candidates} candidates behind. Everything on the front was measured. Click a point to see its numbers."
            if verified
            else f"{candidates} candidates so far. Click a point to see its numbers."
        )
        if counts.get("predicted", 0):
            st.caption(predictor.trust(reports, set(names)) or UNKNOWN)
    with cards:
        if recommended is not None:
            summary("Recommended", "recommended", frame[frame["key"] == recommended].iloc[0], headline(names), off)
        else:
            with st.container(key="no-recommendation"):
                st.info(why_none, icon=":material/info:")
        if picked is not None:
            summary("Picked", "picked", frame[frame["key"] == picked].iloc[0], headline(names), off)


body()
