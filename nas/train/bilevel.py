"""The differentiable search for a tree of tasks: weights and architecture in turn (Bruggemann et al., BMVC 2020).

Every task goes on with a mixture of all branches in every layer, weighted by a Gumbel-softmax of logits whose temperature
falls from 5 to 0.1. As in the authors' code, 80 % of the training images are for the weights and 20 % for the logits; an epoch
passes first over the latter, with the task losses and the strength times the cost of sharing, then over the former, without
it; each pass starts with a fresh Adam (1e-2 and 5e-5 for the logits, 1e-3 and 1e-4 for the weights). The derived tree groups
tasks whose logits are largest for the same branch, and refines layer by layer.

What is ours: weights start from the job's trained supernet, whose largest network has a branch per task, so that there is no
warm-up on one-hot weights; a weight step is one step on the balanced sum of the losses, not one per task; gradients of the
weights are clipped; the cost is relative (`sharing_cost`); a job is a hundred times shorter than the published 160 epochs of a
large data set, so that the logits' learning rate is an option. Batch norm uses the batch's statistics in both passes, and keeps
none: whatever tree is derived is recalibrated before it is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.core import DataError, DifferentiableSpec, NasError, Task, TrainingSpec
from nas.core.branching import Partition, partition
from nas.data import MultiTaskData, Split, batches
from nas.supernet import Branching, SafeConvolutions
from nas.tasks import task_kind
from nas.train.balancing import Balancer
from nas.train.compute import Compute
from nas.train.sharing_cost import sharing_cost

HOT, COLD = 5.0, 0.1  # temperatures of the first and the last epoch
ARCHITECTURE_SHARE = 0.2  # of the training images
ARCHITECTURE_DECAY = 5e-5
WEIGHT_RATE, WEIGHT_DECAY = 1e-3, 1e-4
GRADIENT_NORM = 5.0


@dataclass(frozen=True, slots=True)
class SharingEpoch:
    """What one epoch gave.

    Attributes:
        logits: Of each branch for each task, as lists of shape (layers, tasks, branches).
        tree: Derived from them.
        cost: Expected of what they would derive if drawn, relative to the shared encoder.
        loss: Balanced sum of the task losses on the architecture's images, mean over the epoch.
    """

    logits: list[list[list[float]]]
    tree: tuple[Partition, ...]
    cost: float
    loss: float


def search_tree(
    definition: Branching,
    module: nn.Module,
    balancer: Balancer,
    data: MultiTaskData,
    recipe: TrainingSpec,
    options: DifferentiableSpec,
    strength: float,
    costs: Tensor,
    compute: Compute,
    seed: int,
    initial: Tensor | None = None,
) -> Iterator[SharingEpoch]:
    """Yield what each epoch of one search gives.

    Args:
        definition: A space whose tasks can part.
        module: Its super module, trained; it is trained on, and is of no use afterwards.
        balancer: Turns the tasks' losses into one; it is not trained.
        data: On the module's device.
        recipe: Gives the batch size, and whether images are augmented.
        options: Epochs and learning rate.
        strength: Weight of the cost of sharing beside the losses.
        costs: Of one branch in each layer, shape (layers,).
        compute: Device and precision.
        seed: Of the job; searches of several strengths see the same images, in the same order, and the same noise.
        initial: Logits to start from, shape (layers, tasks, branches); zeros where None, which prefer nothing.

    Raises:
        DataError: There are too few training images for two parts.
        NasError: The losses are not finite any more.
    """
    device, tasks = compute.device, definition.tasks
    order = torch.Generator().manual_seed(seed)
    noise = torch.Generator().manual_seed(seed + 1)
    for_weights, for_logits = halves(data.train, order)
    shape = (definition.layers, len(tasks), len(tasks))
    logits = (torch.zeros(shape) if initial is None else initial.float().clone()).to(device).requires_grad_()
    costs = costs.to(device)
    module.to(device).train()
    balancer.to(device).requires_grad_(False)

    def loss_of(x: Tensor, targets: dict[str, Tensor], temperature: float) -> Tensor:
        shares = gumbel_softmax(logits, temperature, noise)
        with compute.autocast(), SafeConvolutions():
            outputs = definition.relaxed(module, x.contiguous(memory_format=torch.channels_last), shares)
        found: Tensor = balancer({t.name: task_kind(t.kind).loss(outputs[t.name], targets[t.name]) for t in tasks})
        return found

    def images(split: Split) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        return batches(split, tasks, min(recipe.batch_size, len(split)), order, augment=recipe.augment)

    for epoch in range(options.epochs):
        temperature = HOT + (COLD - HOT) * epoch / max(1, options.epochs - 1)
        step = torch.optim.Adam([logits], lr=options.learning_rate, weight_decay=ARCHITECTURE_DECAY)
        losses = []
        for x, targets in images(for_logits):
            loss = loss_of(x, targets, temperature)
            losses.append(float(loss.detach()))
            (logits.grad,) = torch.autograd.grad(loss + strength * sharing_cost(logits, costs), [logits])
            step.step()
        step = torch.optim.Adam(module.parameters(), lr=WEIGHT_RATE, weight_decay=WEIGHT_DECAY)
        logits.requires_grad_(False)
        for x, targets in images(for_weights):
            step.zero_grad(set_to_none=True)
            loss_of(x, targets, temperature).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), GRADIENT_NORM)
            step.step()
        logits.requires_grad_()
        mean = sum(losses) / len(losses)
        if not math.isfinite(mean):
            raise NasError(f"a search for a tree has finite losses: in epoch {epoch + 1} of strength {strength:g} it is {mean}")
        cost = float(sharing_cost(logits.detach(), costs))
        yield SharingEpoch(logits.tolist(), derive(logits, tasks), cost, mean)


def halves(split: Split, generator: torch.Generator) -> tuple[Split, Split]:
    """Return the images for the weights and those for the architecture, drawn at random.

    Raises:
        DataError: A part would have fewer than two images, of which batch norm needs two.
    """
    order = torch.randperm(len(split), generator=generator)
    count = round(ARCHITECTURE_SHARE * len(split))
    if count < 2:
        raise DataError(
            f"a differentiable search sets {ARCHITECTURE_SHARE:.0%} of the training images aside, at least 2: "
            f"got {len(split)} images; give it 8 or more"
        )
    return split.subset(order[count:]), split.subset(order[:count])


def gumbel_softmax(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a differentiable sample of one-hot rows (Jang et al.; Maddison et al., ICLR 2017), of the shape of `logits`.

    Args:
        logits: Unnormalised log-probabilities in the last dimension.
        temperature: The lower, the nearer to one-hot.
        generator: On the CPU, so that every device draws the same.
    """
    gumbel = -torch.empty(logits.shape).exponential_(generator=generator).log()
    return ((logits + gumbel.to(logits.device)) / temperature).softmax(dim=-1)


def derive(logits: Tensor, tasks: Sequence[Task]) -> tuple[Partition, ...]:
    """Return the tree that logits of shape (layers, tasks, branches) say: tasks that parted stay apart.

    Blocks, and tasks in them, are in the job's order.
    """
    names, chosen = [task.name for task in tasks], logits.argmax(dim=2)
    return tuple(partition([tuple(path) for path in chosen[: layer + 1].T.tolist()], names) for layer in range(len(chosen)))
