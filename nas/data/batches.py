"""Batches of a split, made on the split's own device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nas.core import Task
from nas.data.augment import augmented
from nas.data.dataset import Split


def batches(
    split: Split, tasks: Sequence[Task], size: int, generator: torch.Generator | None, augment: bool = False
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield one pass over `split` as (inputs, targets).

    Inputs are float32 in [0, 1]; targets of segmentation and classification are int64, those of depth and normals float32.

    Args:
        split: Images and targets; what is yielded is on the same device.
        tasks: Whose targets to yield.
        size: Images per batch.
        generator: None yields the images in order and keeps the last partial batch. With a generator they are shuffled
            and the last partial batch is dropped, unless it is the only one. A generator on the split's device saves
            copies; one on the CPU gives the same batches everywhere.
        augment: Flip and jitter; needs a generator, and is the same again for a generator in the same state.

    Raises:
        ValueError: A size below 1, or augmentation without a generator.
    """
    if size < 1 or (augment and generator is None):
        raise ValueError(f"batches have at least one image, and augmentation needs a generator: got {size=}, {augment=}")
    device, count = split.inputs.device, len(split)
    if generator is None:
        order = torch.arange(count, device=device)
    else:
        order = torch.randperm(count, generator=generator, device=generator.device).to(device)
    stop = count if generator is None or count < size else count - count % size
    for start in range(0, stop, size):
        index = order[start : start + size]
        inputs = split.inputs[index].float() / 255
        targets = {
            task.name: split.targets[task.name][index].to(torch.float32 if task.kind in ("depth", "normals") else torch.int64)
            for task in tasks
        }
        if augment and generator is not None:
            inputs, targets = augmented(inputs, targets, tasks, generator, flip=split.flippable)
        yield inputs, targets
