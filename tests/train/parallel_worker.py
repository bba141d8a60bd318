"""Two training processes: each averages a gradient, trains an epoch, and writes down what it has."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tiny_training import SPEC, TASKS, tiny_data, tiny_definition

from nas.data import MultiTaskData, batches, shard
from nas.supernet import Supernet
from nas.train.balancing import make_balancer
from nas.train.compute import Compute
from nas.train.parallel import Group
from nas.train.sandwich import Sandwich
from nas.train.trainer import Trainer

BATCH = 16


def gradients(data: MultiTaskData, rank: int, world: int, group: Group | None) -> dict[str, torch.Tensor]:
    """Return the gradients of a step on one worker's share of a batch; batch norm does not look at the batch."""
    torch.manual_seed(0)
    definition = tiny_definition(data)
    supernet = Supernet(definition).eval()
    sandwich = Sandwich(supernet, make_balancer("equal", TASKS), SPEC, Compute(torch.device("cpu"), bf16=False))
    whole = data.train.subset(range(BATCH))
    sandwich.load(*next(iter(batches(shard(whole, rank, world), TASKS, BATCH, None))))
    for arch in (definition.space.largest(), definition.space.smallest()):
        sandwich.run(arch)
    if group is not None:
        group.average(supernet.parameters())
    return {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def main(rank: int, folder: Path) -> None:
    data = tiny_data()
    spec = replace(SPEC, epochs=1, balancing="uncertainty")
    # A seed of its own: the first process gives the other its weights.
    trainer = Trainer(tiny_definition(data), data, spec, rank, rank=rank, world=2, meeting=folder / "meeting")
    found = {"gradients": gradients(data, rank, 2, trainer.group), "start": parameters(trainer)}
    found["curves"] = trainer.run_epoch().curves
    torch.save(found | {"end": parameters(trainer), "step": trainer.step}, folder / f"{rank}.pt")
    trainer.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    child = os.fork()  # torch is imported once
    main(0 if child else 1, Path(sys.argv[1]))
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
