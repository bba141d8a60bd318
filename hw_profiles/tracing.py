"""What happens to shapes while a network runs on the meta device; imports torch, so it is imported late."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Storage = int
_SHORTCUTS = frozenset(
    getattr(torch.ops.aten, name)
    for name in ("native_batch_norm", "relu", "gelu", "silu", "hardswish", "sigmoid", "hardsigmoid")
)


@dataclass(frozen=True, slots=True)
class _Step:
    """One operator: the storages it reads and those it makes."""

    reads: tuple[Storage, ...]
    makes: tuple[Storage, ...]
    overwrites: bool


class ShapeTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations by PyTorch's registered formulas and records which values are alive.

    Args:
        pixels: The network's input, on the meta device.
        free: Names of operators that cost no multiply-accumulates.
        overwrites: Names of operators, besides the element-wise ones, that can write over their input.

    Attributes:
        flops: Two per multiply-accumulate.
        uncounted: Names of operators that have no formula and are not known to be free.
        outputs: The network's outputs; set by the caller before `peak_values`.
    """

    def __init__(self, pixels: torch.Tensor, free: Collection[str], overwrites: Collection[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.uncounted: set[str] = set()
        self.outputs: list[torch.Tensor] = []
        self._free = free
        self._overwrites = overwrites
        self._steps: list[_Step] = []
        self._values: dict[Storage, int] = {}  # size of every activation
        self._kept: list[torch.Tensor] = []  # a freed storage's identity could be given to another
        self._input = self._made(pixels)

    def __torch_dispatch__(
        self, func: Any, types: Collection[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operator on shapes and take note of it."""
        kwargs = kwargs or {}
        packet = func._overloadpacket
        result = _shape_of(packet, args) if packet in _SHORTCUTS else func(*args, **kwargs)
        name = packet.__name__
        element_wise = torch.Tag.pointwise in func.tags
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=result)
        elif not (element_wise or func.is_view or name in self._free or torch.Tag.reduction in func.tags):
            self.uncounted.add(str(packet))
        given = {_storage(tensor) for tensor in tensors_in((args, kwargs))}
        reads = tuple(key for key in given if key in self._values)
        if reads:  # what depends on no activation is a constant
            in_place = name.endswith("_")
            makes = tuple(
                self._made(tensor)
                for tensor in tensors_in(result)
                if _storage(tensor) not in self._values and (in_place or _storage(tensor) not in given)
            )
            self._steps.append(_Step(reads, makes, element_wise or name in self._overwrites))
        return result

    def peak_values(self) -> int:
        """Return the largest number of values alive at once."""
        last_read = {key: index for index, step in enumerate(self._steps) for key in (*step.reads, *step.makes)}
        for tensor in self.outputs:
            last_read[_storage(tensor)] = len(self._steps)
        alive = {self._input}
        peak = self._values[self._input]
        for index, step in enumerate(self._steps):
            alive.update(step.makes)
            needed = sum(self._values[key] for key in alive)
            if step.overwrites and step.makes:
                size = self._values[step.makes[0]]
                if any(last_read[key] == index and self._values[key] == size for key in step.reads):
                    needed -= size
            peak = max(peak, needed)
            alive = {key for key in alive if last_read.get(key, -1) > index}
        return peak

    def _made(self, tensor: torch.Tensor) -> Storage:
        key = _storage(tensor)
        self._values[key] = tensor.untyped_storage().nbytes() // tensor.element_size()
        self._kept.append(tensor)
        return key


def _shape_of(packet: Any, args: tuple[Any, ...]) -> Any:
    """Return what a frequent operator returns in evaluation mode; PyTorch's own way would take most of a trace's time."""
    like = torch.empty_like(args[0])
    return (like, like.new_empty(0), like.new_empty(0)) if packet is torch.ops.aten.native_batch_norm else like


def _storage(tensor: torch.Tensor) -> Storage:
    return int(tensor.untyped_storage()._cdata)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor in a nest of lists, tuples and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
