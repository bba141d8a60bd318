"""What quantizing each block costs and saves: which precisions a search need not try, and where it may start.

A block's loss is that of the network with this block alone quantized, the largest over tasks of the relative change of the
error (as PAGCP judges the pruning of a layer: Ye et al., Performance-Aware Approximation of Global Channel Pruning for
Multitask CNNs, T-PAMI 2023). Its saving has to be looked at twice: alone it pays for two borders between floats and integers,
in the company of quantized neighbours for none, so that a block may cost time alone that it saves in company.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nas.core import Precision

Policy = Mapping[str, Precision]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one file.

    Attributes:
        errors: Task to error, lower is better, above zero.
        ms: Latency in milliseconds.
        bytes: Size of the weights.
    """

    errors: Mapping[str, float]
    ms: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one precision of one block costs and saves, against fp32.

    Attributes:
        block: Name of the block.
        precision: What it computes in.
        loss: Largest relative change of a task's error with this block alone quantized: 0.01 is one percent worse, below zero
            is better.
        saved_ms: Milliseconds saved, alone or in the company of the other blocks, whichever is more; below zero where it costs.
        saved_bytes: Bytes saved.
    """

    block: str
    precision: Precision
    loss: float
    saved_ms: float
    saved_bytes: float


def measure_sensitivity(
    options: Mapping[str, Sequence[Precision]], measure: Callable[[Policy], Measured]
) -> tuple[Sensitivity, ...]:
    """Measure every precision of every block, alone and in company.

    Args:
        options: Block to the precisions that it can compute in, as `nas.supernet.blocks` finds them; fp32 may be among them.
        measure: Makes the file of a policy and measures it. Called once without any quantized block, once for each precision of
            each block alone, once with all blocks in their first precision other than fp32 (the company), and then once for
            each precision of each block with the rest of the company, and once for the company without each block.

    Returns:
        One for each block and precision other than fp32, in the order of `options`.
    """
    quantized = {block: tuple(p for p in able if p != "fp32") for block, able in options.items()}
    quantized = {block: able for block, able in quantized.items() if able}
    company: dict[str, Precision] = {block: able[0] for block, able in quantized.items()}
    floats, together = measure({}), measure(company)
    found: list[Sensitivity] = []
    for block, able in quantized.items():
        absent = measure({other: precision for other, precision in company.items() if other != block})
        for precision in able:
            alone = measure({block: precision})
            among = together if precision == company[block] else measure({**company, block: precision})
            found.append(
                Sensitivity(
                    block,
                    precision,
                    loss=relative_loss(alone.errors, floats.errors),
                    saved_ms=max(floats.ms - alone.ms, absent.ms - among.ms),
                    saved_bytes=floats.bytes - alone.bytes,
                )
            )
    return tuple(found)


def relative_loss(errors: Mapping[str, float], before: Mapping[str, float]) -> float:
    """Return the largest relative change of a task's error; above zero where some task is worse than before.

    A task that made no error before, as a classification may, counts by the error that it makes; one that could not be measured
    before says nothing, and one that cannot be measured any more is infinitely worse.
    """
    changes = [errors[task] / error - 1 if error else errors[task] for task, error in before.items() if math.isfinite(error)]
    return max((math.inf if math.isnan(change) else change for change in changes), default=0.0)


def payoffs(
    sensitivities: Sequence[Sensitivity],
    *,
    noise_ms: float,
    most_loss: float = 0.05,
    count_ms: bool = True,
    count_bytes: bool = False,
) -> dict[str, tuple[Precision, ...]]:
    """Return the precisions of each block that can pay, fp32 always among them: what `WithPrecision` takes as `allowed`.

    Args:
        sensitivities: What was measured.
        noise_ms: Savings up to this are none: twice the spread of the latencies, say.
        most_loss: Precisions that lose more, alone, are left out.
        count_ms: Whether latency is among the objectives.
        count_bytes: Whether size is.
    """
    allowed: dict[str, tuple[Precision, ...]] = {entry.block: () for entry in sensitivities}
    for entry in sensitivities:
        saves = (count_ms and entry.saved_ms > noise_ms) or (count_bytes and entry.saved_bytes > 0)
        if saves and entry.loss <= most_loss:
            allowed[entry.block] += (entry.precision,)
    return {block: (*able, "fp32") for block, able in allowed.items()}


def seed_policies(sensitivities: Sequence[Sensitivity], unit: Literal["ms", "bytes"] = "ms") -> list[dict[str, Precision]]:
    """Return policies for the start of a search, from fp32 everywhere to every block that saves: each quantizes one block more.

    The blocks come in the order of what they lose for what they save, the least first (greedy: exact where losses and savings
    add up); of a block's precisions the best by that measure. A gain in accuracy counts as no loss.

    Args:
        sensitivities: What was measured; leave out what does not pay.
        unit: What is to be saved.
    """

    def saved(entry: Sensitivity) -> float:
        return entry.saved_ms if unit == "ms" else entry.saved_bytes

    def rate(entry: Sensitivity) -> tuple[float, float]:
        return max(entry.loss, 0.0) / saved(entry), -saved(entry)

    chain: list[dict[str, Precision]] = [dict.fromkeys((entry.block for entry in sensitivities), "fp32")]
    for entry in sorted((entry for entry in sensitivities if saved(entry) > 0), key=rate):
        if chain[-1][entry.block] == "fp32":
            chain.append({**chain[-1], entry.block: entry.precision})
    return chain
