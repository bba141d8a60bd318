"""Affinity: how alike the tasks are in each layer, and where a network for them may part."""

from __future__ import annotations

import streamlit as st

from dashboard import palette, shell, source
from dashboard.cards import affinity as card
from dashboard.cards import drawing, tree

job = shell.job_page("Affinity")
found = source.affinity(job.id)
if len(job.spec.tasks) < 2:
    st.info("A job of one task has nothing to compare.", icon=":material/info:")
    st.stop()
if found is None:
    st.info(
        "The tasks have not been compared yet. Once the supernet is trained, this command does it; the search of a space that "
        "branches does it by itself.",
        icon=":material/hourglass_empty:",
    )
    st.code(f"nas affinity {job.id}", language="bash")
    st.stop()
st.caption(card.origin(found))
table = card.info(found)
for measure in table["measure"].unique():
    title, meaning = card.TITLES[measure]
    st.subheader(title)
    st.caption(meaning)
    st.plotly_chart(card.draw(table, measure), key=f"affinity.{measure}", config={"displayModeBar": False})
st.subheader("Where the tasks may part")
st.caption(
    "Trees from the one where all is shared to the one where nothing is. Dissimilarity adds up what tasks that share a layer "
    "differ by there. A width is enough where it holds 99 % of what its tasks' own representations vary by."
)
st.dataframe(card.trees(found), hide_index=True, height="content")
names = [each.name for each in found.trees]
chosen = st.selectbox("Tree", names, index=len(names) // 2, key="tree")
picked = found.trees[names.index(chosen)]
figure = drawing.draw(drawing.info(picked.arch)) if picked.arch else tree.draw(tree.sketch(picked))
st.plotly_chart(figure, key="drawing", config=palette.CONFIG | {"displayModeBar": False})
if picked.arch:
    st.caption("At the space's smallest widths that are enough. The dotted outline is the full width.")
else:
    st.caption("This job's space has no such network: a job with `space.name: branched` has.")
