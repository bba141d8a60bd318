"""Strided convolutions that train safely on a CPU, whatever module they stand in: two faults of oneDNN are gone around.

The backward pass of a 1×1 convolution with a stride writes outside its memory when it has fewer input channels than a vector
register holds (16 floats with AVX-512, 8 with AVX2; issue 6035 of uxlfoundation/oneDNN, open in PyTorch 2.13). Training then
ends by a signal, hangs, or goes on with damaged numbers. Such a convolution reads every second pixel only, so taking these
pixels first and convolving them with stride 1 is the same function.

The backward pass in bfloat16 of a larger kernel with a stride, on images one pixel wide, leaves parts of its result as memory
was before (seen on a Xeon with AMX, PyTorch 2.11: gradients of 1e16). Such a convolution is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS: Mapping[Callable[..., Tensor], int] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}  # spatial dimensions


class SafeConvolutions(TorchFunctionMode):
    """Inside this context, strided convolutions on a CPU are computed in a form whose backward pass is right.

    The rule holds for every call of `torch.conv1d`, `torch.conv2d` or `torch.conv3d` whose gradient will be asked for, from
    whichever module or function it comes. Other calls pass unchanged, so an exported graph keeps its strided convolutions. A
    forward pass inside the context is enough: the backward pass may follow outside.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, a convolution on fewer pixels where the rule above applies."""
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS and torch.is_grad_enabled():
            return _convolve(func, _CONVOLUTIONS[func], *args, **kwargs)
        return func(*args, **kwargs)


def _convolve(
    convolution: Callable[..., Tensor],
    dimensions: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    steps = _per_dimension(stride, dimensions)
    if input.device.type != "cpu" or max(steps) == 1 or isinstance(padding, str):
        return convolution(input, weight, bias, stride, padding, dilation, groups)
    if max(weight.shape[2:]) > 1:
        if min(input.shape[-dimensions:]) > 1:
            return convolution(input, weight, bias, stride, padding, dilation, groups)
        with torch.autocast("cpu", enabled=False):
            bias = None if bias is None else bias.float()
            made = convolution(input.float(), weight.float(), bias, stride, padding, dilation, groups)
        return made.to(_computed(input))
    margins = _per_dimension(padding, dimensions)
    if max(margins) > 0:  # F.pad counts from the last dimension
        input = F.pad(input, [margin for margin in reversed(margins) for _ in range(2)])
    read: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
    return convolution(input[read], weight, bias, 1, 0, 1, groups)


def _computed(input: Tensor) -> torch.dtype:
    """Return the type that a convolution of `input` has here, autocast considered."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype


def _per_dimension(value: int | Sequence[int], dimensions: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dimensions if len(values) == 1 else values
