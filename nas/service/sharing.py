"""What runs in a worker process that looks for where the tasks part, by a relaxed supernet."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from nas.core import FloatArray, JobSpec
from nas.service.job_data import job_data
from nas.service.workers import CHECKPOINT, job_definition
from nas.supernet import Branching, Supernet
from nas.train.balancing import make_balancer
from nas.train.bilevel import SharingEpoch, search_tree
from nas.train.checkpoint import load_checkpoint, part
from nas.train.compute import choose_compute


class SharingWorker:
    """Searches trees from the trained supernet of a job, one strength of the cost of sharing after the other.

    Args:
        spec: The job.
        folder: Of the job; holds the checkpoint.
        costs: Of one branch in each layer, shape (layers,).
        initial: Logits to start from, shape (layers, tasks, branches); None starts from zeros.
        threads: Of torch.
    """

    def __init__(self, spec: JobSpec, folder: Path, costs: FloatArray, initial: FloatArray | None, threads: int) -> None:
        torch.set_num_threads(threads)
        self._spec, self._costs = spec, torch.as_tensor(costs)
        self._initial = None if initial is None else torch.as_tensor(initial)
        self._compute = choose_compute(spec.training)
        data = job_data(spec, folder)
        self._definition = cast("Branching", job_definition(spec, data))
        self._data = data.to(self._compute.device)
        self._trained, _ = load_checkpoint(folder / CHECKPOINT)

    def search(self, strength: float) -> list[SharingEpoch]:
        """Return what each epoch of one search gave."""
        spec, definition = self._spec, self._definition
        supernet = Supernet(definition)
        supernet.load_state_dict(part(self._trained, "model.supernet."))
        balancer = make_balancer(spec.training.balancing, definition.tasks)
        balancer.load_state_dict(part(self._trained, "model.balancer."))
        module = supernet.shared.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        epochs = search_tree(
            definition,
            module,
            balancer,
            self._data,
            spec.training,
            spec.search.differentiable,
            strength,
            self._costs,
            self._compute,
            spec.seed,
            self._initial,
        )
        return list(epochs)
