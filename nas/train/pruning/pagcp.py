"""Global channel pruning under a bound for every task (Ye et al., Performance-aware Approximation of Global Channel Pruning for
Multitask CNNs, T-PAMI 2023).

Groups of channels are visited in turn, those that save most first. Of each, ever more of the least salient channels are masked
until some task's loss has grown by more than a threshold over what it was before; the last ratio below it is kept, and the
threshold shrinks by a factor lambda. Since each group may raise a loss by its threshold alone, the product of all of them
bounds the whole. In the end the groups that cost the most loss for what they save get their channels back.

Where the published code leaves a group whole that never crosses the threshold, not even at 95 %, ours prunes it at the largest
ratio: it is the group that matters least. Ours too are the relative growth, averaged over tasks, that scores a group, and that
kept channels can be rounded up to a multiple.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from nas.core import InputSpec, UserError
from nas.supernet import MultiTaskNet
from nas.train.pruning.channels import ChannelGroup, LayerMacs, Masks, channel_groups, removed

RATIOS = tuple(float(ratio) for ratio in np.linspace(0.05, 0.95, 19))
PRUNING_IMAGES = 64  # calibration images that tell losses apart: they are looked at several times for every group
ALONE = 0.3  # share of a group that is removed to see what it saves
TINY = 1e-12  # a loss of zero has no relative growth
Losses = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a task's loss may grow before it is trained again.

    Attributes:
        rate: Share by which the first group may raise a loss.
        product: Factor by which all groups together may raise it; above 1 + rate.
    """

    rate: float = 0.05
    product: float = 5.0

    def __post_init__(self) -> None:
        if not (self.rate > 0 and math.isfinite(self.product) and self.product > 1 + self.rate):
            raise UserError(
                f"a bound has a rate above 0 and a product above 1 + rate: got {self.rate:g} and {self.product:g}; "
                "write for example 0.05 and 5"
            )

    @classmethod
    def of(cls, growth: float, groups: int) -> Bound:
        """Return the bound under which no loss grows by more than the share `growth` in all (ours).

        The first group gets twice its equal share of the growth, so that thresholds shrink and what saves most may lose most.
        """
        if not 0 < growth < 100:
            raise UserError(f"the share by which losses may grow is above 0: got {growth:g}; write for example 0.3")
        return cls(math.expm1(math.log1p(growth) * min(2 / max(groups, 1), 0.9)), 1 + growth)

    def decay(self, groups: int) -> float:
        """Return lambda, for which the product over i < `groups` of (1 + rate·lambda^i) is `product`; 1 for a single group."""
        if groups < 2:
            return 1.0

        def excess(factor: float) -> float:
            return sum(math.log1p(self.rate * factor**i) for i in range(groups)) - math.log(self.product)

        low, high = 0.0, 1.0
        while excess(high) < 0:
            high *= 2
        for _ in range(100):  # bisection, to the last digit
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) < 0 else (low, middle)
        return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Cut:
    """What was removed of one group.

    Attributes:
        group: Name.
        channels: Numbers of the channels, of `of`.
        of: Channels of the group.
        macs: Saved by it, after the cuts before it.
        growth: Mean over tasks of how much it raised the loss, relative.
        kept: False where the channels were given back in the end.
    """

    group: str
    channels: tuple[int, ...]
    of: int
    macs: float
    growth: float
    kept: bool = True


@dataclass(frozen=True)
class Pruning:
    """A pruned network and how it came about.

    Attributes:
        net: The smaller network.
        cuts: In the order in which groups were visited; groups of which nothing was removed are left out.
        before: Each task's loss before.
        after: And after.
        macs: Multiply-accumulates before and after.
    """

    net: MultiTaskNet
    cuts: tuple[Cut, ...]
    before: Losses
    after: Losses
    macs: tuple[float, float]

    @property
    def channels(self) -> dict[str, int]:
        """Channels that are left, by group."""
        return {cut.group: cut.of - len(cut.channels) for cut in self.cuts if cut.kept}


def pagcp(
    net: MultiTaskNet,
    input: InputSpec,
    losses: Callable[[nn.Module], Losses],
    growth: float | Bound,
    *,
    topk: float = 0.8,
    multiple: int = 1,
    on_group: Callable[[int, int], None] = lambda done, total: None,
) -> Pruning:
    """Prune a network.

    Args:
        net: In evaluation mode; stays as it is.
        input: What it takes.
        losses: Returns each task's loss of a network on calibration images.
        growth: Most that any task's loss may grow in all, as a share, or the bound itself.
        topk: Share of the groups that may stay pruned.
        multiple: Kept channels of a group are rounded up to a multiple of this.
        on_group: Told how many groups of how many were visited.

    Raises:
        UserError: A bound that cannot be.
    """
    groups = channel_groups(net, input)
    bound = growth if isinstance(growth, Bound) else Bound.of(growth, len(groups))
    factor = bound.decay(len(groups))
    macs = LayerMacs(net, input, groups)
    size = macs({})
    saves = {g.name: size - macs({g.name: len(least_salient(g, net, ALONE, multiple))}) for g in groups}
    order = sorted(groups, key=lambda g: saves[g.name], reverse=factor <= 1)

    masked = copy.deepcopy(net)
    masks = Masks(masked)
    before = losses(masked)
    base, threshold, left = dict(before), bound.rate, size
    cuts: list[Cut] = []
    gone: dict[str, tuple[int, ...]] = {}
    for visited, group in enumerate(order):
        accepted, reached = _largest_below(group, net, masked, masks, losses, base, threshold, multiple)
        masks.set(group, accepted)
        if accepted:
            gone[group.name] = accepted
            now = macs({name: len(channels) for name, channels in gone.items()})
            rise = sum(reached[task] / max(base[task], TINY) - 1 for task in base) / len(base)
            cuts.append(Cut(group.name, accepted, group.channels, left - now, rise))
            base, left = {task: max(base[task], reached[task]) for task in base}, now
            threshold *= factor
        on_group(visited + 1, len(order))
    cuts = _give_back(cuts, int(topk * len(groups)))
    kept = {cut.group: cut.channels for cut in cuts if cut.kept}
    for group in order:
        masks.set(group, kept.get(group.name, ()))
    left = macs({name: len(channels) for name, channels in kept.items()})
    return Pruning(removed(net, input, kept), tuple(cuts), before, losses(masked), (size, left))


def least_salient(group: ChannelGroup, net: nn.Module, ratio: float, multiple: int = 1) -> tuple[int, ...]:
    """Return the channels that go when a share `ratio` of a group does; at least one of the group stays."""
    stay = group.channels - int(ratio * group.channels + 1e-9)
    stay = min(group.channels, -(-max(stay, 1) // multiple) * multiple)
    order = group.saliency(net).argsort(stable=True).tolist()
    return tuple(sorted(order[: group.channels - stay]))


def _largest_below(
    group: ChannelGroup,
    net: nn.Module,
    masked: nn.Module,
    masks: Masks,
    losses: Callable[[nn.Module], Losses],
    base: Losses,
    threshold: float,
    multiple: int,
) -> tuple[tuple[int, ...], Losses]:
    """Return the channels of the last ratio before a task's loss exceeds (1 + threshold) of its base, and the losses then."""
    accepted: tuple[int, ...] = ()
    reached, tried = base, accepted
    for ratio in RATIOS:
        gone = least_salient(group, net, ratio, multiple)
        if gone == tried:  # a small group: the next ratio removes no more
            continue
        tried = gone
        masks.set(group, gone)
        found = losses(masked)
        if not all(found[task] <= (1 + threshold) * base[task] for task in base):  # also where a loss is NaN
            break
        accepted, reached = gone, found
    return accepted, reached


def _give_back(cuts: Sequence[Cut], most: int) -> list[Cut]:
    """Return the cuts with all but the `most` marked as given back that raise the losses least for what they save."""
    price = [cut.growth / cut.macs if cut.macs > 0 else math.inf for cut in cuts]
    stay = set(np.argsort(price, kind="stable")[:most].tolist())
    return [Cut(c.group, c.channels, c.of, c.macs, c.growth, i in stay) for i, c in enumerate(cuts)]
