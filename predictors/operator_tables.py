"""Which operators an architecture has, as functions of its choices, learned from the graphs of some; then sums of tables.

To write a network out takes a second, and a search asks for tens of thousands. But each side of each operator depends on
few choices: a convolution's inputs on the width of the layer before, its pixels on the resolution, whether it is there at
all on a depth, whether its values are dequantized on the precisions at both ends. Those few are found in the graphs that
were measured: one decision tree per property, grown until it repeats what was seen. What depends on the same choices
then becomes one table of milliseconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import ArchConfig, BoolArray, DataError, FloatArray, SearchSpace
from nas.core.operator import Operator

MOST_CELLS = 50_000  # of one table
MOST_CHOICES = 4  # of an operator that would need a larger table
FEW_ROWS = 12  # two options are both drawn in as many rows but for one time in two thousand
SELDOM = 1 / 15  # of the graphs
Codes = NDArray[np.int64]  # (architectures, choices): position of the option picked; the number of options where inactive
Cost = Callable[[Sequence[Operator]], FloatArray]


def option_codes(space: SearchSpace, archs: Sequence[ArchConfig]) -> Codes:
    """Return the position of each architecture's option in each choice, shape (n, choices)."""
    codes = np.empty((len(archs), len(space.choices)), dtype=np.int64)
    for column, choice in enumerate(space.choices):
        places = {option: place for place, option in enumerate(choice.options)}
        codes[:, column] = [places[arch[choice.name]] if choice.name in arch else len(places) for arch in archs]
    return codes


@dataclass(frozen=True, slots=True)
class Tree:
    """A value, or a choice with a tree for each of its options that was seen.

    Attributes:
        value: At a leaf.
        choice: Position of the choice that is asked for; -1 at a leaf.
        branches: Code to tree.
    """

    value: int = 0
    choice: int = -1
    branches: Mapping[int, Tree] = field(default_factory=dict)

    @classmethod
    def grow(cls, codes: Codes, values: NDArray[np.int64]) -> Tree:
        """Return a tree that gives `values`, shape (n,), for `codes`, shape (n, choices), where codes tell them apart."""
        seen, kinds, counts = np.unique(values, return_inverse=True, return_counts=True)
        free = np.flatnonzero(codes.min(axis=0) != codes.max(axis=0)).tolist()
        if len(seen) == 1 or not free:
            return cls(int(seen[counts.argmax()]))
        choice = max(free, key=lambda column: _worth(codes[:, column], kinds))
        branches = {}
        for code in np.unique(codes[:, choice]):
            rows = codes[:, choice] == code
            branches[int(code)] = cls.grow(codes[rows], values[rows])
        return cls(choice=choice, branches=branches)

    @classmethod
    def smallest(cls, codes: Codes, values: BoolArray) -> Tree:
        """Return a tree that asks for one choice or two, those with the fewest options, if any two tell the values apart.

        Else what `grow` gives. With few rows a greedy tree is led astray by choices that fit by chance.
        """
        columns = np.flatnonzero(codes.min(axis=0) != codes.max(axis=0)).tolist()
        base = int(codes.max()) + 1
        for count in (1, 2):
            best: tuple[int, tuple[int, ...]] | None = None
            for chosen in itertools.combinations(columns, count):
                cells = codes[:, chosen[0]] if count == 1 else codes[:, chosen[0]] * base + codes[:, chosen[1]]
                rows, true = np.bincount(cells), np.bincount(cells[values], minlength=base**count)[: cells.max() + 1]
                if not (true * (rows - true)).any():
                    kinds = int(np.count_nonzero(rows))
                    best = (kinds, chosen) if best is None or kinds < best[0] else best
            if best is not None:
                others = np.zeros_like(codes)
                others[:, list(best[1])] = codes[:, list(best[1])]
                return cls.grow(others, values.astype(np.int64))
        return cls.grow(codes, values.astype(np.int64))

    def choices(self) -> Iterator[int]:
        """Yield every choice that is asked for, as often as it is."""
        if self.choice >= 0:
            yield self.choice
            for branch in self.branches.values():
                yield from branch.choices()

    def at(self, codes: Codes) -> NDArray[np.int64]:
        """Return the values for codes of all choices, shape (n, choices). An option never seen counts as the nearest seen."""
        if self.choice < 0:
            return np.full(len(codes), self.value)
        known = np.array(sorted(self.branches))
        nearest = known[np.abs(codes[:, self.choice, None] - known).argmin(axis=1)]
        values = np.empty(len(codes), dtype=np.int64)
        for code in np.unique(nearest):
            rows = nearest == code
            values[rows] = self.branches[int(code)].at(codes[rows])
        return values


def _leading(codes: Codes, kinds: NDArray[np.int64]) -> list[int]:
    """Return the choices, one after the other, that tell most of a value's kind, shape (n,): few, where no few tell all."""
    chosen: list[int] = []
    cells = np.zeros(len(codes), dtype=np.int64)
    while len(chosen) < min(MOST_CHOICES, codes.shape[1]):
        joint = [np.unique(cells * (codes.max() + 1) + column, return_inverse=True)[1] for column in codes.T]
        best = max(range(len(joint)), key=lambda column: _told(joint[column], kinds))
        chosen.append(best)
        cells = joint[best]
    return chosen


def _told(codes: NDArray[np.int64], kinds: NDArray[np.int64]) -> float:
    """Return the bits per row that a code tells of a value's kind."""
    joint = np.zeros((codes.max() + 1, kinds.max() + 1))
    np.add.at(joint, (codes, kinds), 1.0)
    joint = joint[joint.any(axis=1)]
    return float(_bits(joint.sum(axis=0, keepdims=True))[0] - (joint.sum(axis=1) / len(codes)) @ _bits(joint))


def _worth(codes: NDArray[np.int64], kinds: NDArray[np.int64]) -> float:
    """Return the bits per row that a choice tells of a value's kind, less what its branches cost (Schwarz, 1978)."""
    branches, values, total = len(np.unique(codes)), int(kinds.max()) + 1, len(codes)
    return _told(codes, kinds) - (branches - 1) * (values - 1) * math.log2(total) / (2 * total)


def _bits(counts: FloatArray) -> FloatArray:
    """Return the entropy of each row of counts, shape (n,)."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    bits: FloatArray = -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    return bits


@dataclass(frozen=True, slots=True)
class _OperatorRule:
    """When an operator is there, and each side of its shapes."""

    pattern: Operator
    present: Tree
    sides: tuple[Tree, ...]  # of input, other and output, one after the other

    def choices(self) -> tuple[int, ...]:
        return tuple(sorted({choice for tree in (self.present, *self.sides) for choice in tree.choices()}))

    def at(self, codes: Codes) -> list[Operator | None]:
        """Return the operator, where it is there, for each row of codes of all choices."""
        shapes = np.stack([tree.at(codes) for tree in (self.present, *self.sides)], axis=1)
        return [self._operator(tuple(row)) if row[0] else None for row in shapes.tolist()]

    def costs(self, codes: Codes, cost: Cost) -> FloatArray:
        """Return the operator's cost for each row of codes, 0 where it is not there; shape (n,)."""
        shapes = np.stack([tree.at(codes) for tree in (self.present, *self.sides)], axis=1)
        distinct, where = np.unique(shapes, axis=0, return_inverse=True)
        values = np.zeros(len(distinct))
        there = np.flatnonzero(distinct[:, 0])
        if len(there):
            values[there] = cost([self._operator(tuple(distinct[place].tolist())) for place in there])
        return values[where.reshape(-1)]

    def _operator(self, sides: tuple[int, ...]) -> Operator:
        left = iter(sides[1:])
        shapes = (tuple(itertools.islice(left, len(s))) for s in (self.pattern.input, self.pattern.other, self.pattern.output))
        return Operator(self.pattern.name, self.pattern.kind, self.pattern.dtype, *shapes)


class _Forest:
    """Trees of sides: those of many operators are one and the same.

    Args:
        codes: Of the architectures whose graphs are known, shape (n, choices).
    """

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._grown: list[tuple[str, int, Tree]] = []  # operator and side that each was grown for
        self._given: NDArray[np.int64] = np.empty((0, len(codes)), dtype=np.int64)  # what each gives for all codes

    def tree(self, name: str, side: int, rows: NDArray[np.int64], values: Sequence[int]) -> Tree:
        """Return a tree that gives the values in these rows, if possible one that was grown on more rows.

        In few rows a side may not have varied yet: what varies elsewhere and fits is likelier than a constant, and of what
        fits the same side of the operator with the most similar name. A side of one, as of a batch or a kernel, is one because
        it is never anything else, unless the same side of other operators is.
        """
        array = np.array(values, dtype=np.int64)
        varies = bool(np.ptp(array))
        if varies or len(rows) < FEW_ROWS:
            fits = [self._grown[place] for place in np.flatnonzero((self._given[:, rows] == array).all(axis=1))]
            fits = [known for known in fits if varies or array[0] != 1 or known[1] == side]
            if fits:
                return max(fits, key=lambda known: (_common(known[0], name), known[1] == side))[2]
        found = Tree.grow(self._codes[rows], array)
        if found.choice >= 0:
            self._grown.append((name, side, found))
            self._given = np.vstack([self._given, found.at(self._codes)])
        return found


def _common(left: str, right: str) -> int:
    """Return how many characters two names begin with in common."""
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


class OperatorRules:
    """The operators of any architecture of a space.

    Args:
        space: The space.
        archs: Architectures whose operators are known.
        graphs: The operators of each, in any order; names tell them apart.

    Raises:
        DataError: The lengths differ, or there are none.
    """

    def __init__(self, space: SearchSpace, archs: Sequence[ArchConfig], graphs: Sequence[Sequence[Operator]]) -> None:
        if not archs or len(archs) != len(graphs):
            raise DataError(f"rules are learned from graphs, one per architecture: {len(graphs)} for {len(archs)}")
        self.space = space
        self._sizes = [len(choice.options) + (choice.active_if is not None) for choice in space.choices]
        codes = option_codes(space, archs)
        found: dict[tuple[object, ...], dict[int, Operator]] = {}
        for row, graph in enumerate(graphs):
            for op in graph:
                found.setdefault((op.name, op.kind, op.dtype, len(op.input), len(op.other), len(op.output)), {})[row] = op
        forest = _Forest(codes)
        seen: dict[bytes, Tree] = {}
        self.rules: list[_OperatorRule] = []
        for have in sorted(found.values(), key=len, reverse=True):  # operators that are seldom absent first
            rows, name = np.array(sorted(have)), next(iter(have.values())).name
            shapes = [(*have[row].input, *have[row].other, *have[row].output) for row in rows]
            sides = tuple(forest.tree(name, side, rows, [shape[side] for shape in shapes]) for side in range(len(shapes[0])))
            presence = np.array([row in have for row in range(len(archs))])
            if min(len(rows), len(archs) - len(rows)) < SELDOM * len(archs):
                presence[:] = len(rows) > len(archs) / 2  # what is behind so few could be any choice
            if presence.tobytes() not in seen:
                seen[presence.tobytes()] = Tree.smallest(codes, presence)
            rule = _OperatorRule(have[int(rows[0])], seen[presence.tobytes()], sides)
            if self._cells(rule) > MOST_CELLS:
                rule = _coarse(rule.pattern, codes, have)
            self.rules.append(rule)

    def operators(self, arch: ArchConfig) -> list[Operator]:
        """Return the operators of an architecture."""
        codes = option_codes(self.space, [arch])
        return [op for rule in self.rules if (op := rule.at(codes)[0]) is not None]

    def tables(self, cost: Cost) -> CostTables:
        """Return the sum of `cost` over the operators of an architecture as a sum of tables."""
        sizes = self._sizes
        tables: dict[tuple[int, ...], FloatArray] = {}
        for rule in self.rules:
            choices = rule.choices()
            shape = tuple(sizes[choice] for choice in choices)
            codes = np.zeros((math.prod(shape), len(sizes)), dtype=np.int64)
            codes[:, list(choices)] = np.indices(shape).reshape(len(choices), math.prod(shape)).T
            values = rule.costs(codes, cost).reshape(shape)
            tables[choices] = tables.get(choices, np.zeros(shape)) + values
        return CostTables(tables)

    def _cells(self, rule: _OperatorRule) -> int:
        return math.prod(self._sizes[choice] for choice in rule.choices())


def _coarse(pattern: Operator, codes: Codes, have: Mapping[int, Operator]) -> _OperatorRule:
    """Return a rule on few choices, right for most architectures, of an operator that depends on many.

    Args:
        pattern: The operator in some graph.
        codes: Of all architectures, shape (n, choices).
        have: Row to the operator, where it is there.
    """
    shapes = np.zeros((len(codes), 1 + len(pattern.input) + len(pattern.other) + len(pattern.output)), dtype=np.int64)
    for row, op in have.items():
        shapes[row] = (1, *op.input, *op.other, *op.output)
    few = np.zeros_like(codes)
    chosen = _leading(codes, np.unique(shapes, axis=0, return_inverse=True)[1].reshape(-1))
    few[:, chosen] = codes[:, chosen]
    rows = sorted(have)
    sides = tuple(Tree.grow(few[rows], side) for side in shapes[rows, 1:].T)
    return _OperatorRule(pattern, Tree.grow(few, shapes[:, 0]), sides)


class CostTables:
    """A cost that is a sum of parts, each looked up by the options of a few choices.

    Args:
        tables: Positions of choices to a table with one axis for each.
    """

    def __init__(self, tables: Mapping[tuple[int, ...], FloatArray]) -> None:
        self.tables = dict(tables)

    def total(self, codes: Codes) -> FloatArray:
        """Return the cost of architectures by the codes of their options, shape (n,)."""
        total = np.zeros(len(codes))
        for choices, table in self.tables.items():
            total += table[tuple(codes[:, choice] for choice in choices)]
        return total

    def state(self) -> list[dict[str, Any]]:
        """Return the tables as JSON-able values."""
        return [{"choices": list(choices), "table": table.tolist()} for choices, table in self.tables.items()]

    @classmethod
    def from_state(cls, state: Sequence[Mapping[str, Any]]) -> CostTables:
        """Return the tables whose state this is."""
        return cls({tuple(row["choices"]): np.array(row["table"], dtype=np.float64) for row in state})
