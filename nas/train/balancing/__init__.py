"""How the losses of several tasks become one: a module from losses to a scalar, one file each."""

from __future__ import annotations

from collections.abc import Sequence

from nas.core import JobFileError, Task, nearest
from nas.train.balancing.balancer import Balancer
from nas.train.balancing.equal import Equal
from nas.train.balancing.fixed import Fixed
from nas.train.balancing.svd import Svd
from nas.train.balancing.uncertainty import Uncertainty

BALANCERS: dict[str, type[Balancer]] = {"equal": Equal, "fixed": Fixed, "uncertainty": Uncertainty, "svd": Svd}

__all__ = ["BALANCERS", "Balancer", "make_balancer"]


def make_balancer(name: str, tasks: Sequence[Task]) -> Balancer:
    """Return the balancer called `name` for these tasks.

    Raises:
        JobFileError: There is none; the message names the nearest.
    """
    if name not in BALANCERS:
        raise JobFileError(f"there is no balancing {name!r}; {nearest(name, BALANCERS)}")
    return BALANCERS[name](tasks)
