"""Control: which subnet a budget and preferences ask for, answered while the sliders move."""

from __future__ import annotations

import streamlit as st

from dashboard import shell, source, units
from dashboard.cards import control as card
from dashboard.cards import drawing
from nas.core import Objective
from nas.core.control import ControlTable

job = shell.job_page("Control")
found = source.control(job.id)
if found is None:
    st.info(
        "There is no control table of this job yet. It is made once the search is done, by the first nas control:",
        icon=":material/hourglass_empty:",
    )
    st.code(f"nas control {job.id} --budget 'latency_ms@{job.spec.devices[0]}<=5'", language="bash")
    st.stop()
table: ControlTable = found


@shell.fragment()
def body() -> None:
    """Draw the sliders and the answer; a moved slider draws only this again."""
    answer, side = st.columns([7, 2.6], gap="large")
    with side:
        st.html('<div class="nas-card-title">Budget</div>')
        costs = list(table.costs)
        metric = st.segmented_control("Of", costs, default=costs[0], required=True, format_func=units.label, key="control.of")
        steps = card.budgets(table, metric)
        limit = st.select_slider(
            units.label(metric),
            steps,
            value=steps[len(steps) // 2],
            format_func=lambda value: units.number(metric, value),
            key=f"control.budget.{metric}",
        )
        st.html('<div class="nas-card-title">Preferences</div>')
        preference = {task: st.slider(task, 0.0, 1.0, 0.5, 0.05, key=f"control.{task}") for task in table.tasks}
    budget = Objective(metric, "min", float(limit))
    with answer:
        picked = table.control(budget, preference)
        parts = drawing.info(picked.arch, [card.supernet(table)])
        if not parts.empty:
            st.plotly_chart(drawing.draw(parts), key="control.drawing", config={"displayModeBar": False})
        st.caption(
            f"Score {picked.score:.3f}: the errors relative to the largest subnet's, weighted by the preferences; lower is "
            "better. The preferred task has the wider decoder, and the encoder is the best for what is left of the budget. "
            "All of it is predicted; the budget is compared with the prediction and a margin for its error."
        )
        st.dataframe(card.info(picked, budget), hide_index=True, height="content")
        st.caption("This command measures the subnet, and exports it:")
        st.code(card.command(job.id, budget, preference), language="bash")
        with st.expander("Every choice", expanded=parts.empty):
            choices = [{"Choice": name, "Option": str(option)} for name, option in picked.arch.items()]
            st.dataframe(choices, hide_index=True, height="content")


body()
