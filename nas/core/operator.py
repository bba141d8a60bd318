"""What an inference engine runs: operators, known by their kind and the shapes around them."""

from __future__ import annotations

import math
from dataclasses import dataclass

Shape = tuple[int, ...]
BYTES = {  # any other type has one byte
    "float": 4,
    "double": 8,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
}

_MACS_BY_WEIGHT = frozenset({"Conv", "QLinearConv", "FusedConv", "NhwcFusedConv", "ConvTranspose"})
_MACS_BY_ROWS = frozenset({"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "QLinearMatMul", "QGemm", "MatMulInteger"})
_MACS_BY_ROWS |= {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"}


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of the graph that an inference engine runs, after it has fused what it can.

    Attributes:
        name: Stable over the networks of a space: the name of the layer, or the kind and the layer before.
        kind: Such as ``Conv``, ``Conv+Add``, ``QLinearConv``, ``QuantizeLinear``.
        dtype: Of the input, as ONNX Runtime calls it: ``float``, ``uint8``.
        input: Shape of what flows in.
        other: Shape of the weight or second operand; empty where there is none.
        output: Shape of what flows out.
    """

    name: str
    kind: str
    dtype: str
    input: Shape
    other: Shape
    output: Shape

    @property
    def flops(self) -> float:
        """Operations: two per multiply-accumulate; for all other operators one per value that is read or written."""
        kind, results = self.kind.partition("+")[0], math.prod(self.output)
        if kind == "ConvTranspose" and len(self.other) > 2:
            return 2.0 * math.prod(self.input) * math.prod(self.other[1:])
        if kind in _MACS_BY_WEIGHT and len(self.other) > 2:
            return 2.0 * results * math.prod(self.other[1:])
        if kind in _MACS_BY_ROWS and self.input:
            return 2.0 * results * self.input[-1]
        return float(max(results, math.prod(self.input)))

    @property
    def bytes(self) -> float:
        """Input, other operand and output, each moved once, all in the input's type."""
        size = BYTES.get(self.dtype, 1)
        return float(size * sum(math.prod(shape) for shape in (self.input, self.other, self.output) if shape))


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """An operator and how long it takes in milliseconds."""

    operator: Operator
    ms: float
