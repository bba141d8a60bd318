"""Training: losses, and the validation error of each task over the steps."""

from __future__ import annotations

import streamlit as st

from dashboard import palette, shell, source
from dashboard.cards import curves as card
from dashboard.cards import hypervolume

job = shell.job_page("Training")


@shell.fragment(shell.refresh_s(job))
def body() -> None:
    """Draw the losses, then the validation metrics."""
    frame = card.info(source.curves(job.id))
    if frame.empty:
        st.info("No step has been logged yet. The curves start with the training.", icon=":material/hourglass_empty:")
        return
    won = hypervolume.info(source.evaluations(job.id), job.spec.objectives)
    panels = card.panels(frame)
    losses, errors = [name for name in panels if name == "loss"], [name for name in panels if name.startswith("error.")]
    sharing = [name for name in panels if name == "sharing_cost"]
    rest = [name for name in panels if name not in (*losses, *errors, *sharing)]
    for title, shown in (
        ("Loss per task", losses),
        ("Validation error per task", errors),
        ("Validation metrics", rest),
        ("Differentiable search: expected cost, as a multiple of an encoder that all tasks share", sharing),
    ):
        if shown:
            st.subheader(title)
            st.plotly_chart(card.draw(frame, shown), key=title, config=palette.CONFIG)
    if not won.empty:
        st.subheader("Search: hypervolume against time")
        st.plotly_chart(hypervolume.draw(won), key="hypervolume", config=palette.CONFIG)
        st.caption("Share that candidates dominate of the box from the best to a little beyond the worst of each objective.")


body()
