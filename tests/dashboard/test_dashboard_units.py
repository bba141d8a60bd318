from datetime import UTC, datetime, timedelta

import pytest

from dashboard import clock, units
from nas.core import Stage, StageRecord, StageState

START = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("macs", 1_240_000_000, "1.24 G"),
        ("macs", 999_600, "1.00 M"),
        ("macs", 12, "12"),
        ("params", 3.33e6, "3.33 M"),
        ("size_bytes", 31_400, "31.4 kB"),
        ("peak_bytes", 512, "512 B"),
        ("latency_ms@local", 4.6666, "4.67 ms"),
        ("latency_ms@a.b", 4.6, "4.60 ms"),
        ("miou.seg", 26.94, "26.9 %"),
        ("mean_deg.normals", 38.04, "38.0°"),
        ("rmse_m.depth", 1.0084, "1.008 m"),
        ("error.seg", 0.73121, "0.7312"),
        ("delta_m", 1.25, "+1.2 %"),
        ("delta_m", -3.0, "−3.0 %"),
        ("made_up", 2.0, "2.000"),
        ("macs", float("nan"), "–"),
    ],
)
def test_a_number_has_its_unit(metric: str, value: float, text: str) -> None:
    assert units.number(metric, value) == text


def test_labels_name_task_and_device() -> None:
    assert units.label("miou.seg") == "mIoU · seg"
    assert units.label("latency_ms@pi") == "Latency · pi"
    assert units.axis_title("latency_ms@pi") == "Latency · pi (ms)"
    assert units.axis_title("size_bytes") == "Model size"  # the ticks carry the prefix and the B
    assert units.label("made_up.seg") == "made up · seg"


def test_objectives_come_first_then_tasks_then_costs() -> None:
    names = {"params", "macs", "miou.seg", "error.seg", "latency_ms@local"}
    assert units.order(names, ("error.seg", "macs", "absent")) == [
        "error.seg",
        "macs",
        "miou.seg",
        "latency_ms@local",
        "params",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (48, "48 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (4 * 86400 + 3 * 3600, "4 d 3 h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert clock.span(seconds) == text


def test_age_uses_its_largest_unit() -> None:
    ages = [clock.age(START, START + timedelta(seconds=seconds)) for seconds in (5, 61, 7300, 200_000)]
    assert ages == ["just now", "1 min ago", "2 h ago", "2 d ago"]


def test_eta_is_the_mean_pace_times_what_is_left() -> None:
    stage = StageRecord(Stage.TRAIN, StageState.RUNNING, done=30, total=120, started=START)
    assert clock.eta(stage, START + timedelta(seconds=60)) == pytest.approx(180)
    waiting = StageRecord(Stage.TRAIN, StageState.RUNNING, done=0, total=120, started=START)
    assert clock.eta(waiting, START + timedelta(seconds=60)) is None
    done = StageRecord(Stage.TRAIN, StageState.DONE, done=120, total=120, started=START)
    assert clock.eta(done, START + timedelta(seconds=60)) is None


def test_a_short_latency_keeps_its_digits() -> None:
    written = [units.number("latency_ms@local", value) for value in (12.3456, 1.5, 0.5, 0.0462, 0.00123, 0.0)]
    assert written == ["12.35 ms", "1.50 ms", "0.500 ms", "0.0462 ms", "0.00123 ms", "0.00 ms"]
    assert units.number("miou.seg", 0.04) == "0.0 %"


@pytest.mark.parametrize("metric", ["error.seg", "miou.seg", "macs", "size_bytes", "latency_ms@local", "delta_m", "unheard.of"])
def test_a_column_has_a_format_that_ends_in_no_stray_letter(metric: str) -> None:
    form = units.column_format(metric)
    assert form in ("compact", "bytes") or (form % 12.345).replace(".", "").isdigit()
