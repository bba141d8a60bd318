"""Whether two tasks pull the shared weights the same way: the cosine of their losses' gradients (Yu et al., NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nas.core import FloatArray, Task, UserError
from nas.supernet import MultiTaskNet, SafeConvolutions
from nas.tasks import task_kind

Batches = Iterable[tuple[Tensor, Mapping[str, Tensor]]]


def gradient_cosines(net: MultiTaskNet, batches: Batches, tasks: Sequence[Task]) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation over the batches of each pair's cosine, both of shape (layers, tasks, tasks).

    A batch weighs as much as it has images, as the last one may have fewer.

    A batch that says nothing of a task (none of its targets is known) does not count for it; where none does, both are NaN.

    Args:
        net: In eval mode, all its encoder shared; its layers are the children of ``stages``.
        batches: Pixels and targets; one or more.
        tasks: Tasks of `net`.

    Raises:
        UserError: The network has no ``stages``.
    """
    layers = _layers(net)
    rows, images = [], []
    for x, targets in batches:
        with SafeConvolutions():
            outputs = net(x)
        images.append(len(x))
        gradients = []
        for index, task in enumerate(tasks):
            loss = task_kind(task.kind).loss(outputs[task.name], targets[task.name])
            gradients.append(_gradient(loss, layers, keep=index < len(tasks) - 1))
        rows.append([cosines(torch.stack([own[layer] for own in gradients])) for layer in range(len(layers))])
    found = np.ma.masked_invalid(np.array(rows))  # (batches, layers, tasks, tasks)
    mean = np.ma.average(found, axis=0, weights=images)
    spread = np.ma.sqrt(np.ma.average((found - mean) ** 2, axis=0, weights=images))
    return np.ma.filled(mean, np.nan), np.ma.filled(spread, np.nan)


def cosines(gradients: Tensor) -> FloatArray:
    """Return the cosine of every two rows of shape (tasks, weights), NaN with a row of zeros."""
    rows = gradients.double()
    norms = rows.norm(dim=1, keepdim=True)
    rows = rows / torch.where(norms > 0, norms, torch.nan)
    return np.asarray((rows @ rows.T).clamp(-1, 1).cpu().numpy())


def _layers(net: MultiTaskNet) -> list[list[Tensor]]:
    try:
        stages = net.get_submodule("stages")
    except AttributeError:
        raise UserError(
            f"affinity compares tasks in the layers of an encoder, the children of its network's `stages`: "
            f"{type(net).__name__} has none; name its list of layers so"
        ) from None
    return [list(stage.parameters()) for stage in stages.children()]


def _gradient(loss: Tensor, layers: Sequence[Sequence[Tensor]], keep: bool) -> list[Tensor]:
    """Return a loss's gradient on each layer's weights, flat, one per layer; zeros where the loss does not depend on them."""
    weights = [weight for layer in layers for weight in layer]
    if not loss.requires_grad:
        return [torch.cat([torch.zeros_like(weight).flatten() for weight in layer]) for layer in layers]
    found = iter(torch.autograd.grad(loss, weights, retain_graph=keep, allow_unused=True, materialize_grads=True))
    return [torch.cat([next(found).flatten() for _ in layer]) for layer in layers]
