"""From an operator's kind and shapes to milliseconds: a roofline per kind, and a Gaussian process for what it misses.

A roofline (Williams, Waterman and Patterson, 2009; here the sum of overhead, arithmetic and traffic rather than their
maximum, as in-order kernels overlap little) carries over to shapes beyond those measured; the process learns from the
measured ones how a kernel's efficiency depends on channels, pixels and kernel size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.core import DataError, FloatArray
from nas.core.operator import Operator, OperatorTime
from predictors.relative import LogGaussianProcess

FEWEST_SHAPES = 4  # a kind seen in fewer shapes has a roofline only
UNIT = 1e6  # operations and bytes are counted in millions: milliseconds per million are near one
Kind = tuple[str, str]  # kind and type of the input


@dataclass(frozen=True, slots=True)
class _KindTime:
    """Overhead in ms, ms per million operations, ms per million bytes, shape (3,); and the factor that the roofline misses."""

    roofline: FloatArray
    factor: LogGaussianProcess | None

    def ms(self, operators: Sequence[Operator]) -> FloatArray:
        times: FloatArray = _traffic(operators) @ self.roofline
        return times if self.factor is None else times * self.factor.predict(_features(operators))[0]


class OperatorTimes:
    """Learned from the operators of networks that were timed; predicts those of any network on the same device."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, _KindTime] = {}
        self._any: FloatArray = np.zeros(3)

    def fit(self, timed: Iterable[OperatorTime]) -> None:
        """Fit to operators that were timed, most of them several times.

        Raises:
            DataError: There are none.
        """
        rows: dict[Kind, dict[Operator, list[float]]] = {}
        for row in timed:
            shapes = _unnamed(row.operator)
            rows.setdefault((shapes.kind, shapes.dtype), {}).setdefault(shapes, []).append(row.ms)
        if not rows:
            raise DataError("times of operators are learned from some; there are none: measure subnets with their operators")
        medians = {kind: {op: float(np.median(ms)) for op, ms in seen.items()} for kind, seen in rows.items()}
        self._kinds = {kind: _fit_kind(list(seen), np.array(list(seen.values()))) for kind, seen in medians.items()}
        every = {op: ms for seen in medians.values() for op, ms in seen.items()}
        self._any = _fit_roofline(list(every), np.array(list(every.values())))

    def predict(self, operators: Sequence[Operator]) -> FloatArray:
        """Return milliseconds, shape (n,). A kind that was never timed has the roofline of all kinds together."""
        if not self._kinds:
            raise RuntimeError("a predictor predicts after it was fitted; call fit first")
        times = np.empty(len(operators))
        places: dict[Kind, list[int]] = {}
        for place, op in enumerate(operators):
            places.setdefault((op.kind, op.dtype), []).append(place)
        for kind, where in places.items():
            group = [operators[place] for place in where]
            known = self._kinds.get(kind) or self._kinds.get((kind[0].partition("+")[0], kind[1]))
            times[where] = known.ms(group) if known else _traffic(group) @ self._any
        return times

    def unknown(self, operators: Iterable[Operator]) -> set[str]:
        """Return the kinds among these that were never timed."""
        return {op.kind for op in operators if (op.kind, op.dtype) not in self._kinds}

    def state(self) -> dict[str, Any]:
        """Return what was fitted as JSON-able values."""
        kinds = [
            {"kind": list(kind), "roofline": one.roofline.tolist(), "factor": one.factor.state() if one.factor else None}
            for kind, one in self._kinds.items()
        ]
        return {"kinds": kinds, "any": self._any.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> OperatorTimes:
        """Return the predictor whose state this is."""
        restored = cls()
        restored._any = np.array(state["any"], dtype=np.float64)
        for row in state["kinds"]:
            factor = LogGaussianProcess.from_state(row["factor"]) if row["factor"] else None
            restored._kinds[row["kind"][0], row["kind"][1]] = _KindTime(np.array(row["roofline"], dtype=np.float64), factor)
        return restored


def _unnamed(op: Operator) -> Operator:
    return Operator("", op.kind, op.dtype, op.input, op.other, op.output)


def _fit_kind(operators: list[Operator], ms: FloatArray) -> _KindTime:
    roofline = _fit_roofline(operators, ms)
    if len(operators) < FEWEST_SHAPES:
        return _KindTime(roofline, None)
    factor = LogGaussianProcess()
    factor.fit(_features(operators), ms / (_traffic(operators) @ roofline))
    return _KindTime(roofline, factor)


def _fit_roofline(operators: list[Operator], ms: FloatArray) -> FloatArray:
    """Return the overhead and the two rates, none negative, with the least squared relative error; shape (3,)."""
    from scipy.optimize import nnls

    weights: FloatArray = nnls(_traffic(operators) / ms[:, None], np.ones(len(ms)))[0]
    return weights


def _traffic(operators: Sequence[Operator]) -> FloatArray:
    """Return one, millions of operations and millions of bytes of each operator, shape (n, 3)."""
    return np.array([[1.0, op.flops / UNIT, op.bytes / UNIT] for op in operators])


def _features(operators: Sequence[Operator]) -> FloatArray:
    """Return logarithms of what a kernel's efficiency depends on, shape (n, 7)."""
    return np.log([_sizes(op) for op in operators])


def _sizes(op: Operator) -> list[float]:
    values_in, values_out = math.prod(op.input), math.prod(op.output)
    if len(op.other) > 2:  # a convolution's weight: (outputs, inputs of a group, *kernel)
        outputs, inputs, kernel = op.other[0], op.other[1], math.prod(op.other[2:])
    else:
        outputs, kernel = (op.output[1] if len(op.output) > 1 else 1), 1
        inputs = op.input[1] if len(op.input) > 1 else 1
    pixels, stride = values_out / max(outputs, 1), values_in / max(values_out, 1)
    return [max(value, 1e-9) for value in (op.flops, op.bytes, inputs, outputs, pixels, kernel, stride)]
