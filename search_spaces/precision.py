"""The precision of every block as choices added to any space (SimQ-NAS, 2023, adds them to its spaces in the same way)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.core import ArchConfig, ArchError, Choice, FloatArray, Precision, SearchSpace, nearest, without_policy
from nas.core.precision import PREFIX
from nas.supernet import MultiTaskNet, Shapes, SpaceDefinition, View, blocks


class WithPrecision:
    """A space whose networks also pick a precision for each block. Networks, weights and counts are those of the space.

    Choices: ``precision.BLOCK`` for each block (`nas.supernet.blocks`), after those of the space.

    Args:
        definition: The space.
        allowed: Blocks to the precisions that may be picked there (`nas.export.sensitivity` says which pay); None, or a
            block that is absent, means all that its layers can compute in. A block left with one keeps it as a choice without
            an alternative, so that an architecture has one name whatever is allowed.

    Raises:
        ArchError: `allowed` names a block that the networks lack, or a precision that the block cannot compute in, or none.
    """

    def __init__(self, definition: SpaceDefinition, allowed: Mapping[str, Sequence[Precision]] | None = None) -> None:
        self.tasks, self.input = definition.tasks, definition.input
        self.definition = definition
        able = {block.name: block.precisions for block in blocks(definition.super_module())}
        for name, precisions in (allowed or {}).items():
            if name not in able:
                raise ArchError(f"{name!r} is no block of space {definition.space.name!r}; {nearest(name, able)}")
            if not precisions:
                raise ArchError(f"a block computes in at least one precision: {name!r} has none; leave it out to allow all")
            for precision in precisions:
                if precision not in able[name]:
                    raise ArchError(f"block {name!r} cannot compute in {precision!r}; {nearest(precision, able[name])}")
        picks = {name: tuple(p for p in all_ if p in (allowed or {}).get(name, all_)) for name, all_ in able.items()}
        choices = [Choice(PREFIX + name, options) for name, options in picks.items()]
        self.space = definition.space + SearchSpace("precision", choices)
        self.teacher = self.space.arch({**definition.teacher, **{choice.name: choice.options[-1] for choice in choices}})

    def build(self, arch: ArchConfig) -> MultiTaskNet:
        """Return the plain network in fp32; `nas.export.quantize` makes the file that computes as the policy says."""
        return self.definition.build(without_policy(arch))

    def super_module(self) -> MultiTaskNet:
        """Return the owner of the shared weights."""
        return self.definition.super_module()

    def views(self, arch: ArchConfig, shapes: Shapes) -> Mapping[str, View]:
        """Return where each tensor lies in the shared weights, whatever its precision."""
        return self.definition.views(without_policy(arch), shapes)

    def macs(self, archs: Sequence[ArchConfig]) -> FloatArray:
        """Return multiply-accumulates for one input, shape (n,): a precision changes what one costs, not their number."""
        return self.definition.macs([without_policy(arch) for arch in archs])
