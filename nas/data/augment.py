"""Augmentation of a whole batch at once: mirrored images and jittered colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nas.core import Task

JITTER = 0.3  # brightness, contrast and saturation are scaled by 1 ± this
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey, ITU-R BT.601


def augmented(
    inputs: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task], generator: torch.Generator, flip: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a batch in which half the images are mirrored, and all have their colours jittered.

    Args:
        inputs: float32 in [0, 1], shape (b, c, h, w).
        targets: One tensor per task, of b entries.
        tasks: Whose targets to follow the images.
        generator: Source of all randomness.
        flip: Whether images may be mirrored.
    """
    if flip:
        mask = _uniform(len(inputs), generator, inputs.device) < 0.5
        inputs, targets = flipped(inputs, targets, tasks, mask)
    return jittered(inputs, generator), dict(targets)


def flipped(
    inputs: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task], mask: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the batch with the images where `mask`, bool of shape (b,), is true mirrored left to right.

    Dense targets follow. The x-component of a surface normal changes its sign.
    """
    result = dict(targets)
    for task in tasks:
        if task.dense:
            target = _mirrored(targets[task.name], mask)
            if task.kind == "normals":
                sign = torch.ones(len(mask), 3, 1, 1, device=target.device, dtype=target.dtype)
                sign[:, 0, 0, 0] = 1 - 2 * mask.to(target.dtype)
                target = target * sign
            result[task.name] = target
    return _mirrored(inputs, mask), result


def jittered(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (b, c, h, w) with brightness, contrast and (of three channels) saturation each scaled at random."""
    device, count = inputs.device, len(inputs)

    def factor() -> Tensor:
        return (1 + JITTER * (2 * _uniform(count, generator, device) - 1)).view(-1, 1, 1, 1)

    brightness, contrast, saturation = factor(), factor(), factor()
    images = inputs * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    if inputs.shape[1] == 3:
        grey = (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        images = grey + (images - grey) * saturation
    return images.clamp(0, 1)


def _mirrored(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *[1] * (values.ndim - 1)), values.flip(-1), values)


def _uniform(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device).to(device)
