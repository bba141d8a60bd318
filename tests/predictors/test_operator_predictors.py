"""Latency from operators, on networks whose operators and times are known in closed form."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np
import pytest

from nas.core import ArchConfig, Choice, DataError, FloatArray, SearchSpace
from nas.core.operator import Operator, OperatorTime
from predictors.operator_latency import OperatorLatency, held_out_operators
from predictors.operator_tables import MOST_CELLS, CostTables, OperatorRules, Tree, option_codes
from predictors.operator_times import OperatorTimes

SIDES, WIDTHS = (24, 32), (8, 16, 24, 32)
SPACE = SearchSpace(
    "toy",
    [
        Choice("side", SIDES),
        Choice("first", WIDTHS),
        Choice("second", WIDTHS),
        Choice("depth", (1, 2)),
        Choice("inner", (8, 16), active_if=("depth", (2,))),
        Choice("precision.a", ("int8", "fp32")),
        Choice("precision.b", ("int8", "fp32")),
    ],
)


def conv(name: str, side: int, inputs: int, outputs: int, int8: bool) -> Operator:
    kind, dtype = ("QLinearConv", "uint8") if int8 else ("Conv", "float")
    return Operator(name, kind, dtype, (1, inputs, side, side), (outputs, inputs, 3, 3), (1, outputs, side, side))


def graph(arch: ArchConfig) -> list[Operator]:
    """Two blocks; a border where their precisions differ; a resampling that falls out of fusion at one of the sides."""
    side, first, second = (int(arch[name]) for name in ("side", "first", "second"))
    a, b = (arch[f"precision.{block}"] == "int8" for block in "ab")
    ops = [conv("a.0", side, 3, first, a)]
    shape = (1, first, side, side)
    if a and not b:
        ops.append(Operator("border", "DequantizeLinear", "uint8", shape, (), shape))
    if b and not a:
        ops.append(Operator("border", "QuantizeLinear", "float", shape, (), shape))
    ops.append(conv("b.0", side, first, second, b))
    if arch["depth"] == 2:
        inner = int(arch["inner"])
        ops += [conv("b.1", side, second, inner, b), conv("b.2", side, inner, second, b)]
    ops.append(Operator("up", "Upsample" if side == 32 else "Resize", "float", (1, second, side, side), (), (1, 4, 64, 64)))
    return ops


def true_ms(operators: Sequence[Operator]) -> FloatArray:
    """An overhead, and arithmetic four times as fast in eight bits."""
    rate = {"Conv": 2e-8, "QLinearConv": 5e-9, "Resize": 4e-7, "Upsample": 1e-7}
    return np.array([0.004 + rate.get(op.kind, 1e-7) * op.flops + 1e-8 * op.bytes for op in operators])


def measured(count: int, seed: int) -> tuple[list[ArchConfig], list[list[OperatorTime]], FloatArray]:
    rng = np.random.default_rng(seed)
    archs = [SPACE.sample(rng) for _ in range(count)]
    graphs = [[OperatorTime(op, float(ms)) for op, ms in zip(ops, true_ms(ops), strict=True)] for ops in map(graph, archs)]
    return archs, graphs, np.array([sum(row.ms for row in rows) for rows in graphs])


class TestTimes:
    def test_it_learns_a_roofline_and_carries_it_to_larger_operators(self) -> None:
        _, graphs, _ = measured(30, 0)
        times = OperatorTimes()
        times.fit(row for rows in graphs for row in rows)
        larger = [conv("x", 64, 48, 64, int8) for int8 in (False, True)]
        np.testing.assert_allclose(times.predict(larger), true_ms(larger), rtol=0.1)
        known = [row.operator for row in graphs[0]]
        np.testing.assert_allclose(times.predict(known), true_ms(known), rtol=0.03)

    def test_a_kind_that_was_never_timed_is_named_and_still_has_a_time(self) -> None:
        _, graphs, _ = measured(10, 0)
        times = OperatorTimes()
        times.fit(row for rows in graphs for row in rows)
        strange = Operator("x", "Softmax", "float", (1, 8, 16, 16), (), (1, 8, 16, 16))
        assert times.unknown([strange, graphs[0][0].operator]) == {"Softmax"}
        assert 0 < times.predict([strange])[0] < 1

    def test_order_and_repeats_do_not_matter(self) -> None:
        _, graphs, _ = measured(20, 0)
        rows = [row for rows in graphs for row in rows]
        times = OperatorTimes()
        times.fit(rows)
        ops = [row.operator for row in rows]
        forward, backward = times.predict(ops), times.predict(ops[::-1])
        np.testing.assert_array_equal(forward, backward[::-1])

    def test_nothing_to_learn_from_is_an_error(self) -> None:
        with pytest.raises(DataError, match="measure subnets"):
            OperatorTimes().fit([])


class TestRules:
    def test_a_tree_repeats_what_it_saw(self) -> None:
        rng = np.random.default_rng(0)
        codes = np.unique(rng.integers(0, 3, (60, 4)), axis=0)
        values = rng.integers(0, 4, len(codes))
        tree = Tree.grow(codes, values)
        np.testing.assert_array_equal(tree.at(codes), values)

    def test_a_conjunction_is_found_among_choices_that_do_not_matter(self) -> None:
        rng = np.random.default_rng(1)
        codes = rng.integers(0, 4, (40, 12))
        codes[:, :6] %= 2
        values = codes[:, 1] * codes[:, 4]
        assert set(Tree.grow(codes, values).choices()) == {1, 4}

    def test_graphs_never_seen_are_told_exactly(self) -> None:
        archs, graphs, _ = measured(40, 0)
        rules = OperatorRules(SPACE, archs, [[row.operator for row in rows] for rows in graphs])
        others, theirs, _ = measured(200, 1)
        for arch, rows in zip(others, theirs, strict=True):
            assert sorted(map(str, rules.operators(arch))) == sorted(str(row.operator) for row in rows)

    def test_tables_add_up_what_the_rules_say(self) -> None:
        archs, graphs, _ = measured(40, 0)
        rules = OperatorRules(SPACE, archs, [[row.operator for row in rows] for rows in graphs])
        tables = rules.tables(true_ms)
        others, _, ms = measured(100, 2)
        np.testing.assert_allclose(tables.total(option_codes(SPACE, others)), ms, rtol=1e-12)
        again = CostTables.from_state(json.loads(json.dumps(tables.state())))
        np.testing.assert_array_equal(again.total(option_codes(SPACE, others)), tables.total(option_codes(SPACE, others)))

    def test_an_option_that_was_never_seen_is_taken_for_its_neighbour(self) -> None:
        space = SearchSpace("line", [Choice("width", (8, 16, 24, 32))])
        archs = [space.arch({"width": width}) for width in (8, 16, 24)]
        graphs = [[conv("a", 8, 3, int(arch["width"]), False)] for arch in archs]
        assert OperatorRules(space, archs, graphs).operators(space.arch({"width": 32})) == graphs[2]

    def test_an_operator_that_depends_on_everything_is_told_by_the_choices_that_tell_most(self) -> None:
        space = SearchSpace("wide", [Choice(f"c{i}", tuple(range(8))) for i in range(6)])
        rng = np.random.default_rng(0)
        archs = [space.sample(rng) for _ in range(300)]

        def graph(arch: ArchConfig) -> list[Operator]:
            parts = [int(arch[f"c{i}"]) for i in range(6)]
            return [conv("a", 8, 3, 1000 * (1 + parts[2]) + sum(parts), False), conv("b", 8, 3, 1 + parts[0], False)]

        rules = OperatorRules(space, archs, [graph(arch) for arch in archs])
        sizes = [table.size for table in rules.tables(true_ms).tables.values()]
        assert max(sizes) <= MOST_CELLS < 8**6
        for arch in (space.sample(rng) for _ in range(50)):
            wide, exact = rules.operators(arch)
            assert abs(wide.other[0] / graph(arch)[0].other[0] - 1) < 0.05
            assert exact == graph(arch)[1]


class TestLatency:
    def test_it_predicts_architectures_it_never_saw(self) -> None:
        predictor = OperatorLatency(SPACE)
        predictor.fit(*measured(40, 0))
        archs, _, ms = measured(200, 1)
        mean, std = predictor.predict(archs)
        assert (np.abs(mean / ms - 1) < 0.1).mean() >= 0.99
        assert np.abs(mean / ms - 1).mean() < 0.03
        assert (std > 0).all()

    def test_the_whole_may_be_less_than_its_parts(self) -> None:
        archs, graphs, ms = measured(60, 0)
        predictor = OperatorLatency(SPACE)
        predictor.fit(archs, graphs, ms**1.1)  # small networks are faster than the sum of their operators
        others, _, theirs = measured(200, 1)
        assert (np.abs(predictor.predict(others)[0] / theirs**1.1 - 1) < 0.1).mean() >= 0.97

    def test_by_rule_and_by_graph_agree(self) -> None:
        predictor = OperatorLatency(SPACE)
        predictor.fit(*measured(40, 0))
        archs, graphs, _ = measured(50, 1)
        by_graph = predictor.predict_graphs([[row.operator for row in rows] for rows in graphs])
        for left, right in zip(predictor.predict(archs), by_graph, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-9)

    def test_a_state_goes_through_json_without_loss(self) -> None:
        predictor = OperatorLatency(SPACE)
        predictor.fit(*measured(30, 0))
        restored = OperatorLatency.from_state(SPACE, json.loads(json.dumps(predictor.state(), allow_nan=False)))
        archs, _, _ = measured(50, 1)
        for before, after in zip(predictor.predict(archs), restored.predict(archs), strict=True):
            np.testing.assert_array_equal(before, after)
        op = graph(archs[0])
        np.testing.assert_array_equal(predictor.times.predict(op), restored.times.predict(op))

    def test_its_held_out_error_is_that_of_rows_it_did_not_see(self) -> None:
        archs, graphs, ms = measured(40, 0)
        noisy = ms * np.exp(0.05 * np.random.default_rng(3).standard_normal(40))
        quality, truth, predicted = held_out_operators(SPACE, archs, graphs, noisy, np.random.default_rng(0))
        np.testing.assert_array_equal(truth, noisy)
        assert 0.03 < quality["mape"] < 0.06  # of a normal of 5 %, 4 % on average
        assert quality["mape"] == pytest.approx(np.abs(predicted / truth - 1).mean())
        assert 0.7 <= quality["coverage_90"] <= 1.0

    def test_operators_that_were_listed_but_not_timed_tell_what_few_measured_graphs_do_not(self) -> None:
        few, rest = measured(12, 0), measured(60, 5)
        listed = [(arch, [row.operator for row in rows]) for arch, rows in zip(*rest[:2], strict=True)]
        archs, graphs, _ = measured(200, 1)
        alone, helped = OperatorLatency(SPACE), OperatorLatency(SPACE)
        alone.fit(*few)
        helped.fit(*few, listed)
        by_graph = helped.predict_graphs([[row.operator for row in rows] for rows in graphs])[0]
        np.testing.assert_allclose(helped.predict(archs)[0], by_graph, rtol=1e-9)
        assert np.abs(alone.predict(archs)[0] / by_graph - 1).max() > 0.05

    def test_what_is_held_out_is_not_learned_from_its_listing(self) -> None:
        archs, graphs, ms = measured(12, 0)
        listed = [(arch, [row.operator for row in rows]) for arch, rows in zip(archs, graphs, strict=True)]
        alone = held_out_operators(SPACE, archs, graphs, ms, np.random.default_rng(0))[2]
        np.testing.assert_array_equal(
            held_out_operators(SPACE, archs, graphs, ms, np.random.default_rng(0), listed=listed)[2], alone
        )

    def test_what_cannot_be_fitted_is_an_error_with_a_remedy(self) -> None:
        archs, graphs, ms = measured(4, 0)
        with pytest.raises(DataError, match="measure more subnets"):
            OperatorLatency(SPACE).fit(archs[:1], graphs[:1], ms[:1])
        with pytest.raises(DataError, match="3 positive"):
            OperatorLatency(SPACE).fit(archs, graphs, np.array([1.0, np.nan, 1.0, 1.0]))
        with pytest.raises(RuntimeError, match="call fit first"):
            OperatorLatency(SPACE).predict(archs)

    def test_a_hundred_thousand_architectures_a_second(self) -> None:
        predictor = OperatorLatency(SPACE)
        predictor.fit(*measured(40, 0))
        archs, _, _ = measured(2000, 1)
        start = time.process_time()
        predictor.predict(archs)
        assert time.process_time() - start < 0.2  # ten times what it takes
