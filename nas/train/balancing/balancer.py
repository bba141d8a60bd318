"""What every balancer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from nas.core import Task
from nas.data import MultiTaskData


class Balancer(nn.Module):
    """Turns the tasks' losses into the scalar that is trained. Parameters of its own are trained with the network's.

    Args:
        tasks: Tasks of the job.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    def prepare(self, data: MultiTaskData) -> None:
        """Look at the data once, before a training starts from nothing; a resumed one has what came of it in its checkpoint.

        What is learned here is kept in buffers. Does nothing by default.
        """

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return a scalar from one scalar per task."""
        raise NotImplementedError
