"""One network: how it is built, how good it is, what it predicts, and how to take it away."""

from __future__ import annotations

from html import escape

import pandas as pd
import streamlit as st

from dashboard import shell, source, units
from dashboard.cards import candidates, drawing, predictor
from dashboard.cards.predictor import UNKNOWN
from nas.core import ArchConfig, Evaluation, NotFoundError
from nas.core.refinement import VERIFIED_STAGES


def tiles(metrics: dict[str, float], row: Evaluation) -> str:
    """Return the metrics as HTML tiles, with the standard deviation or spread where it is known."""
    cells = []
    for name, value in metrics.items():
        std = row.std.get(name)
        below = f"± {units.number(name, std)}" if std else ""
        tip = escape(units.kind(name).meaning, quote=True)
        cells.append(
            f'<div class="nas-tile" title="{tip}"><span>{escape(units.label(name))}</span>'
            f"<b>{escape(units.number(name, value))}</b><i>{escape(below)}</i></div>"
        )
    return f'<div class="nas-tiles">{"".join(cells)}</div>'


def find(rows: list[Evaluation], key: str) -> Evaluation:
    """Return the verified evaluation of `key`, else the candidate's.

    Raises:
        NotFoundError: The job never evaluated it.
    """
    own = [row for row in rows if row.arch.key == key]
    if not own:
        raise NotFoundError(f"this job evaluated no network {key}; choose one on the Pareto front or among the candidates")
    return min(own, key=lambda row: (row.failure != "", candidates.ORDER.index(row.stage)))


def outputs(key: str) -> None:
    """Draw the sample predictions and the files of the network."""
    st.subheader("Predictions beside the truth")
    samples = source.artifacts(job.id, "sample", key)
    with st.container(key="samples"):
        for sample in samples:
            st.image(str(sample.path), width="content", caption=str(sample.info.get("caption", "")) or None)
    if not samples:
        st.info("No sample was drawn of this network: samples are drawn of verified networks.", icon=":material/image:")


def export(key: str) -> None:
    """Draw the export command and the downloads."""
    st.subheader("Take it away")
    st.code(f"nas export {job.id} --arch {key}", language="bash")
    files = [*source.artifacts(job.id, "onnx", key), *source.artifacts(job.id, "card", key)]
    if not files:
        st.caption("Run the command to write the ONNX file and its model card; they can then be downloaded here.")
        return
    with st.container(horizontal=True):
        for file in files:
            size = units.si(file.path.stat().st_size, "B")
            st.download_button(
                f"{file.path.name} ({size})",
                file.path.read_bytes,
                file_name=file.path.name,
                icon=":material/download:" if file.kind == "onnx" else ":material/description:",
                type="primary" if file.kind == "onnx" else "secondary",
                key=f"download.{file.path.name}",
                on_click="ignore",
            )
    for file in files:
        if file.kind == "card" and file.path.suffix == ".md":
            with st.expander("Model card"):
                st.markdown(file.path.read_text(encoding="utf-8"))


def picture(arch: ArchConfig, others: list[ArchConfig]) -> None:
    """Draw the architecture, and its choices as a table."""
    st.subheader("Architecture")
    parts = drawing.info(arch, others)
    if not parts.empty:
        st.plotly_chart(drawing.draw(parts), key="drawing", config={"displayModeBar": False})
        st.caption("Solid is what this network keeps; the dotted outline is the whole supernet.")
    choices = pd.DataFrame({"Choice": list(arch), "Option": [str(option) for option in arch.values()]})
    with st.expander("Every choice", expanded=parts.empty):
        st.dataframe(choices, hide_index=True, height="content")


job = shell.job_page("Network")
evaluations = [row for row in source.evaluations(job.id) if row.stage in candidates.STAGES]
table = candidates.info(evaluations, job.spec.objectives)
if table.empty:
    st.info("No network has been evaluated yet. The search fills this page as it goes.", icon=":material/hourglass_empty:")
    st.stop()
keys = table["key"].to_list()
notes = {row["key"]: "on the front" if row["on_front"] else row["stage"] for row in table.to_dict("records")}
asked = st.query_params.get("key")
found = find(evaluations, asked) if asked else find(evaluations, keys[0])


def follow() -> None:
    """Put the network chosen in the list into the address."""
    st.query_params["key"] = st.session_state["network"]


if st.session_state.get("network") != found.arch.key:
    st.session_state["network"] = found.arch.key
st.selectbox("Network", keys, format_func=lambda key: f"{key} · {notes[key]}", key="network", on_change=follow)
if asked != found.arch.key:
    st.query_params["key"] = found.arch.key
kind = candidates.STAGES[found.stage].capitalize() if found.stage in VERIFIED_STAGES else "Candidate"
split = f" on the {found.split} split" if found.split else ""
state = f"{kind}, {found.source.value}{split}."
if found.failure:
    st.warning(f"This network was skipped: {found.failure}", icon=":material/block:")
else:
    st.caption(state + ("" if found.stage in VERIFIED_STAGES else " Only verified networks stand on the front."))
    names = units.order(set(found.metrics), tuple(each.metric for each in job.spec.objectives))
    if found.source == "predicted":
        reports = [report for report in source.predictors(job.id) if report.target.startswith("latency_ms@")]
        st.caption(predictor.trust(reports, set(names)) or UNKNOWN)
    st.html(tiles({name: found.metrics[name] for name in sorted(names, key=lambda name: "." not in name)}, found))
picture(found.arch, [row.arch for row in evaluations])
outputs(found.arch.key)
export(found.arch.key)
