from __future__ import annotations

import io
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from dashboard import palette
from dashboard.cards import candidates, curves, drawing, front, hypervolume, jobfile, predictor, profiles, progress
from nas.core import (
    ArchConfig,
    DataSpec,
    Evaluation,
    Fingerprint,
    JobSpec,
    Latency,
    Objective,
    PredictorReport,
    Profile,
    SearchSpec,
    Source,
    SpaceSpec,
    Stage,
    StageRecord,
    StageState,
    TaskSpec,
    TrainingSpec,
)
from nas.core.refinement import refined_arch
from nas.service.jobfile import read_job

OBJECTIVES = (Objective("error.seg"), Objective("latency_ms@local", limit=10.0))


def row(name: int, error: float, ms: float, stage: str = "verify", source: Source = Source.MEASURED) -> Evaluation:
    return Evaluation(ArchConfig({"n": name}), {"error.seg": error, "latency_ms@local": ms}, source, stage)


def key(name: int) -> str:
    return ArchConfig({"n": name}).key


ROWS = [
    row(1, 0.9, 1.0, "search", Source.PREDICTED),  # verified below: stands for itself there
    row(1, 0.8, 2.0),
    row(2, 0.5, 4.0),
    row(3, 0.6, 5.0),  # dominated by 2
    row(4, 0.2, 20.0),  # beyond the limit
    row(5, 0.1, 1.0, "search", Source.PREDICTED),  # would dominate all, but nothing predicted is on the front
    row(6, 0.7, 6.0, "search"),
    Evaluation(ArchConfig({"n": 7}), {}, Source.MEASURED, "search", failure="its loss was not finite"),
    row(8, 0.0, 0.0, "twins"),
]


def test_front_sorts_what_was_measured_from_what_was_predicted() -> None:
    frame = front.info(ROWS, OBJECTIVES)
    groups = dict(zip(frame["key"], frame["group"], strict=True))
    assert groups == {
        key(1): "front",
        key(2): "front",
        key(3): "verified",
        key(4): "verified",
        key(5): "predicted",
        key(6): "measured",
    }
    assert frame.set_index("key").loc[key(1), "error.seg"] == 0.8  # the verified number, not the search's


def test_a_refined_network_stands_among_the_verified_under_its_own_name() -> None:
    subnet, made = row(1, 0.4, 5.0), row(2, 0.3, 4.0, stage="pruned")
    made = replace(made, arch=refined_arch(made.arch, {"stem.0": 3}, "ab"))
    beside = replace(row(3, 0.9, 9.0, stage="finetuned"), arch=refined_arch(subnet.arch, {}, "cd"))
    frame = front.info([subnet, made, beside], OBJECTIVES)
    assert dict(zip(frame["key"], frame["group"], strict=True)) == {
        subnet.arch.key: "verified",  # the refined one is better in both
        made.arch.key: "refined",
        beside.arch.key: "verified",
    }
    traces = {trace.name: trace for trace in front.draw(frame, front.View("latency_ms@local", "error.seg")).data}
    assert traces["Refined, on the front"].marker.symbol == "diamond"
    table = candidates.info([subnet, made, beside], OBJECTIVES)
    assert dict(zip(table["key"], table["stage"], strict=True))[made.arch.key] == "pruned and fine-tuned"
    assert table[table["on_front"]]["key"].to_list() == [made.arch.key]


def test_front_draws_every_group_the_line_the_limit_and_the_recommended_point() -> None:
    figure = front.draw(
        front.info(ROWS, OBJECTIVES), front.View("latency_ms@local", "error.seg", recommended=key(2)), OBJECTIVES
    )
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces["Front of these two"].x) == [2.0, 4.0]
    assert list(traces["Front of these two"].y) == [0.8, 0.5]
    assert traces["Front of these two"].line.shape == "hv"
    assert [each[0] for each in traces["Verified front"].customdata] == [key(1), key(2)]
    assert traces["Candidates, latency predicted"].marker.symbol == "diamond-open"
    assert traces["Candidates, measured"].marker.symbol == "circle"
    assert traces["Candidates, measured"].marker.opacity < 0.5 < traces["Verified front"].marker.opacity
    assert list(traces["Recommended"].x) == [4.0]
    assert key(2)[:8] in figure.layout.annotations[0].text
    assert figure.layout.shapes[0].x0 == 10.0  # the limit
    assert figure.layout.xaxis.title.text == "Latency · local (ms)"
    assert "<b>4.00 ms</b>" in traces["Verified front"].hovertext[1]


def test_a_predicted_number_has_its_error_beside_it_and_a_measured_one_has_not() -> None:
    off = predictor.off([REPORT])
    assert off == {"latency_ms@local": 0.0512}
    frame = front.info(ROWS, OBJECTIVES)
    figure = front.draw(frame, front.View("latency_ms@local", "error.seg"), OBJECTIVES, off)
    traces = {trace.name: trace for trace in figure.data}
    (text,) = traces["Candidates, latency predicted"].hovertext
    assert "<b>1.00 ms</b> ± 5.1 %" in text
    assert "±" not in text.partition("Error")[2].partition("<br>")[0]  # the error of the task was measured
    assert not any("±" in each for name in ("Verified front", "Candidates, measured") for each in traces[name].hovertext)
    said = predictor.trust([REPORT], {"latency_ms@local"})
    assert said.startswith("Latency · local of candidates is predicted, off by 5.1 % on average, measured on 3 subnets")
    assert predictor.trust([REPORT], {"macs"}) == ""


def test_reused_candidates_stand_beside_the_others_and_screened_ones_in_the_table_only() -> None:
    part = Evaluation(ArchConfig({"n": 9}), {"error.seg": 0.0, "latency_ms@local": 0.1}, Source.MEASURED, "screen", "val-part")
    both = replace(part, arch=ArchConfig({"n": 6}))  # screened, then evaluated
    told = Evaluation(
        ArchConfig({"n": 10}),
        {"error.seg": 0.7, "latency_ms@local": 6.0},
        Source.PREDICTED,
        "reused",
        std={"latency_ms@local": 0.3},
    )
    rows = [part, both, *ROWS, told]
    groups = front.info(rows, OBJECTIVES).set_index("key")["group"]
    assert groups[key(10)] == "predicted"
    assert key(9) not in groups
    table = candidates.info(rows, OBJECTIVES).set_index("key")
    assert table["stage"].loc[[key(6), key(9), key(10)]].to_list() == ["candidate", "screened out", "reused candidate"]
    assert table.loc[key(10), "off.latency_ms@local"] == 0.3
    assert table["off.latency_ms@local"].notna().sum() == 1


def test_screening_shows_its_agreement_and_nothing_where_there_was_none() -> None:
    found = {"share": 0.25, "agreement": {"error.seg": {"kendall_tau": 0.8, "mape": 0.02, "candidates": 9}}}
    stages = {Stage.SEARCH: StageRecord(Stage.SEARCH, StageState.DONE, result={"screening": found})}
    assert predictor.screening(stages).iloc[0].to_list() == ["Error · seg", 0.8, 2.0]
    assert predictor.screening({Stage.SEARCH: StageRecord(Stage.SEARCH, StageState.DONE)}).empty


def test_front_in_three_dimensions_coloured_by_a_fourth_metric() -> None:
    rows = [
        Evaluation(r.arch, {**r.metrics, "macs": i * 1e6, "params": i * 1e3}, r.source, r.stage) for i, r in enumerate(ROWS[:7])
    ]
    view = front.View("latency_ms@local", "error.seg", "macs", "params", key(2), key(6))
    figure = front.draw(front.info(rows, OBJECTIVES), view)
    traces = {trace.name: trace for trace in figure.data}
    assert {trace.type for trace in figure.data} == {"scatter3d"}
    assert list(traces["Verified front"].z) == [1e6, 2e6]
    assert list(traces["Verified front"].marker.color) == [1e3, 2e3]
    assert (traces["Verified front"].marker.cmin, traces["Verified front"].marker.cmax) == (1e3, 6e3)
    assert figure.layout.scene.zaxis.title.text == "MACs"
    assert list(traces["Picked"].z) == [6e6]


def test_staircase_respects_a_metric_to_maximise() -> None:
    frame = pd.DataFrame({"key": ["a", "b", "c"], "miou.seg": [10.0, 30.0, 20.0], "macs": [1.0, 5.0, 9.0]})
    assert front.staircase(frame, "macs", "miou.seg")["key"].to_list() == ["a", "b"]
    assert front.staircase(frame, "miou.seg", "macs")["key"].to_list() == ["b", "a"]


def test_front_of_nothing_is_an_empty_chart() -> None:
    frame = front.info([], OBJECTIVES)
    assert frame.empty
    assert list(frame.columns) == ["key", "group"]


def test_candidates_hold_one_row_per_network_and_go_to_csv() -> None:
    frame = candidates.info(ROWS, OBJECTIVES)
    assert frame["key"].to_list() == [key(n) for n in (1, 2, 3, 4, 5, 6, 7)]
    assert frame["on_front"].to_list() == [True, True, False, False, False, False, False]
    assert list(frame.columns) == ["key", "on_front", "stage", "source", "error.seg", "latency_ms@local", "failure", "arch.n"]
    failed = frame.set_index("key").loc[key(7)]
    assert (failed["failure"], failed["source"]) == ("its loss was not finite", "")
    again = pd.read_csv(io.StringIO(candidates.csv(frame)))
    assert again["latency_ms@local"].to_list()[:6] == [2.0, 4.0, 5.0, 20.0, 1.0, 6.0]


PICKS = {
    "resolution": 0.75,
    "encoder.0.width": 0.5,
    "encoder.0.depth": 1,
    "encoder.10.width": 1.0,
    "encoder.2.width": 0.25,
    "decoder.seg.width": 0.75,
    "quantize": "none",
}


def test_drawing_reads_parts_from_the_names_of_the_choices() -> None:
    larger = ArchConfig({**PICKS, "encoder.0.depth": 3})
    frame = drawing.info(ArchConfig(PICKS), [larger])
    assert frame[["part", "name"]].to_numpy().tolist() == [
        ["input", "0.75"],
        ["encoder", "0"],
        ["encoder", "2"],
        ["encoder", "10"],
        ["decoder", "seg"],
    ]
    first = frame.iloc[1]
    assert (first["width"], first["depth"], first["max_width"], first["max_depth"]) == (0.5, 1, 1.0, 3)


def test_drawing_is_to_scale() -> None:
    frame = drawing.info(ArchConfig(PICKS), [ArchConfig({**PICKS, "encoder.0.depth": 3})])
    figure = drawing.draw(frame)
    solid = [shape for shape in figure.layout.shapes if shape.fillcolor in palette.SERIES]
    outlined = [shape for shape in figure.layout.shapes if shape.fillcolor and shape.fillcolor not in palette.SERIES]
    assert len(solid) == 4  # one block in each stage, one decoder
    assert len(outlined) == 1 + 3 + 1 + 1 + 1  # the input, three blocks of the supernet's stage 0, the rest

    def tall(path: str) -> float:
        ys = [float(point.split(",")[1]) for point in path.split() if "," in point]
        return max(ys) - min(ys)

    assert [tall(shape.path) for shape in solid[:3]] == pytest.approx([1.0, 0.5, 2.0])  # widths 0.5, 0.25 and 1 of two units
    texts = " ".join(each.text for each in figure.layout.annotations)
    assert "75%" in texts
    assert "×0.25" in texts
    assert "stage 10 · 1 block" in texts


def test_drawing_names_the_precision_of_each_part() -> None:
    policy = {
        "precision.stages.0": "int8",
        "precision.stages.1": "fp32",
        "precision.decoders.seg": "int8",
        "precision.stem": "fp32",
    }
    arch = ArchConfig({"encoder.0.width": 0.5, "encoder.1.width": 1.0, "decoder.seg.width": 1.0} | policy)
    texts = [note.text for note in drawing.draw(drawing.info(arch)).layout.annotations]
    assert [text for text in texts if "int8" in text] == ["<b>×0.5</b> · int8<br>stage 0 · 1 block", "<b>×1</b> · int8<br>seg"]
    assert sum("fp32" in text for text in texts) == 1


def test_drawing_of_absolute_widths_is_relative_to_the_largest() -> None:
    small, large = ArchConfig({"encoder.a.width": 32}), ArchConfig({"encoder.a.width": 64})
    assert drawing.info(small, [large]).iloc[0]["max_width"] == 64


def test_a_space_without_stages_is_not_drawn() -> None:
    assert drawing.info(ArchConfig({"edge.0": "conv3x3", "edge.1": "skip"})).empty


def test_curves_are_grouped_by_what_they_say() -> None:
    frame = curves.info({"loss.seg": [(1, 2.0), (2, 1.0)], "val.largest.error.seg": [(2, 0.5)], "lr": [(1, 0.1)]})
    assert frame[["panel", "series"]].drop_duplicates().to_numpy().tolist() == [
        ["loss", "seg"],
        ["lr", "lr"],
        ["error.seg", "largest"],
    ]
    assert curves.panels(frame) == ["loss", "error.seg", "lr"]
    figure = curves.draw(frame, ["loss", "error.seg"])
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data] == [
        ("seg", [1.0, 2.0], [2.0, 1.0]),
        ("largest", [2.0], [0.5]),
    ]


def test_the_cost_of_sharing_has_a_panel_with_a_line_per_strength() -> None:
    assert curves.place("sharing_cost.0.05") == ("sharing_cost", "strength 0.05")
    frame = curves.info({"sharing_cost.0": [(1, 2.0)], "sharing_cost.0.05": [(1, 1.5)]})
    assert curves.panels(frame) == ["sharing_cost"]
    assert [trace.name for trace in curves.draw(frame, ["sharing_cost"]).data] == ["strength 0", "strength 0.05"]


def test_long_curves_are_averaged_in_bins() -> None:
    frame = curves.info({"loss.seg": [(step, float(step % 2)) for step in range(4000)]})
    assert len(frame) == curves.POINTS
    assert frame["value"].to_numpy() == pytest.approx(0.5)
    assert frame["step"].iloc[0] == pytest.approx(4.5)


REPORT = PredictorReport(
    "latency_ms@local",
    "gp",
    30,
    3,
    {"mape": 0.0512, "kendall_tau": 0.9, "coverage_90": 0.875},
    (2.0, 4.0, 10.0),
    (2.1, 4.8, 9.0),
)


def test_predictor_scatter_tells_the_band_from_the_rest() -> None:
    frame = predictor.info(REPORT)
    assert frame["error"].to_numpy() == pytest.approx([0.05, 0.2, -0.1])
    assert frame["inside"].to_list() == [True, False, True]
    traces = {trace.name: trace for trace in predictor.draw(frame, REPORT.target).data}
    assert list(traces["Within 10 %"].x) == [2.0, 10.0]
    assert list(traces["Beyond 10 %"].y) == [4.8]
    band = traces["±10 %"]
    assert [y / x for x, y in zip(band.x, band.y, strict=True)] == pytest.approx([1.1, 1.1, 0.9, 0.9])


def test_predictor_verdict_names_what_the_report_holds() -> None:
    assert [(title, value) for title, value, _ in predictor.verdict(REPORT)] == [
        ("MAPE", "5.1 %"),
        ("Kendall τ", "0.900"),
        ("Coverage of 90 %", "88 %"),
    ]


def test_profiles_show_the_spread_and_the_noisy() -> None:
    machine = Fingerprint("Example CPU", 2, "1.0", "CPUExecutionProvider", 1)
    rows = [
        Profile(
            ArchConfig({"n": n}), device, machine, Latency(ms, 1, 0.1, ms, ms, ms, ms, 100, noisy=n == 2), {"macs": n * 1e6}
        )
        for n, device, ms in ((1, "local", 2.0), (2, "local", 4.0), (3, "pi", 30.0))
    ]
    frame = profiles.info(rows, "local")
    assert frame["spread_ms"].to_numpy() == pytest.approx([0.2, 0.4])
    calm, noisy = profiles.draw(frame, "macs").data
    assert (list(calm.x), list(calm.y), list(calm.error_y.array)) == ([1e6], [2.0], pytest.approx([0.2]))
    assert (list(noisy.y), noisy.marker.symbol) == ([4.0], "x")


def test_progress_of_each_stage() -> None:
    start = datetime(2030, 5, 1, tzinfo=UTC)
    stages = {
        Stage.TRAIN: StageRecord(
            Stage.TRAIN, StageState.DONE, 8, 8, "steps", started=start, ended=start + timedelta(seconds=50)
        ),
        Stage.SEARCH: StageRecord(Stage.SEARCH, StageState.RUNNING, 25, 100, "candidates", "<b>hot</b>", start),
        Stage.VERIFY: StageRecord(Stage.VERIFY, StageState.WAITING),
    }
    frame = progress.info(stages, start + timedelta(seconds=10))
    assert frame["share"].to_list() == [1.0, 0.25, 0.0]
    assert frame["eta_s"].to_list()[1] == pytest.approx(30)
    html = progress.draw(frame)
    assert "25% · 30 s left" in html
    assert "50 s</div>" in html
    assert "25 / 100 candidates · &lt;b&gt;hot" in html  # what a job says is text, never markup
    assert "stopped at 25%" in progress.draw(progress.info(stages, start + timedelta(seconds=10), live=False))


def test_the_job_file_shown_gives_the_same_job() -> None:
    spec = JobSpec(
        name="again",
        tasks=(TaskSpec("seg"), TaskSpec("depth", 0.5)),
        objectives=(Objective("error.seg"), Objective("error.depth"), Objective("latency_ms@local", limit=9.0)),
        space=SpaceSpec("slimmable", {"widths": [0.5, 1.0]}),
        data=DataSpec("scenes"),
        search=SearchSpec(sampler="tpe", evaluations=30),
        seed=3,
    )
    again = read_job(jobfile.draw(jobfile.info(spec)))
    assert [device.name for device in again.targets] == ["local"]  # found by its name when the file is read
    assert replace(again, targets=()) == spec
    reusing = replace(spec, training=TrainingSpec(reuse="ab12cd34", twins=True, device="cpu"))
    trained = replace(spec, training=replace(reusing.training, epochs=7))  # as the store has it: with the former recipe
    assert replace(read_job(jobfile.draw(jobfile.info(trained))), targets=()) == reusing


def test_hypervolume_rises_with_the_minutes_that_a_search_took() -> None:
    """Two objectives on the unit square: the box reaches a tenth beyond the worst, 1.21 in area."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    points = [(1.0, 1.0), (0.0, 1.0), (1.0, 0.5), (0.5, 0.0)]
    rows = [
        Evaluation(
            ArchConfig({"n": i}), {"error.seg": x, "macs": y}, Source.MEASURED, "search", made=start + timedelta(minutes=2 * i)
        )
        for i, (x, y) in enumerate(points)
    ]
    unknown = [
        replace(rows[0], arch=ArchConfig({"n": 9}), made=None),
        replace(rows[0], metrics={"error.seg": math.nan, "macs": 0.0}),
    ]
    frame = hypervolume.info([*reversed(rows), *unknown], (Objective("error.seg"), Objective("macs")))
    assert frame["minutes"].tolist() == [0, 2, 4, 6]
    assert frame["candidates"].tolist() == [1, 2, 3, 4]
    expected = [0.1 * 0.1, 1.1 * 0.1, 1.1 * 0.1 + 0.1 * 0.5, 1.1 * 0.1 + 0.6 * 1.0]
    assert frame["hypervolume"].tolist() == pytest.approx([area / 1.21 for area in expected])
    assert list(hypervolume.draw(frame).data[0].y) == frame["hypervolume"].tolist()
    assert hypervolume.info(rows[:1], (Objective("error.seg"), Objective("macs"))).empty
