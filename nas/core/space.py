"""A search space is an algebra of choices: it samples, mutates, enumerates, counts, validates, encodes and adds up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.core.arch import ArchConfig, Option
from nas.core.errors import ArchError, nearest
from nas.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision.

    Attributes:
        name: Unique in its space, such as ``encoder.2.width``.
        options: What can be picked, ordered, smallest network first.
        active_if: ``(parent, options)``: the choice exists only where the parent, a choice named before it, is active
            and picked one of these options. None means that it always exists.
    """

    name: str
    options: tuple[Option, ...]
    active_if: tuple[str, tuple[Option, ...]] | None = None

    def __post_init__(self) -> None:
        if not self.options:
            raise ArchError(f"a choice needs at least one option: {self.name} has none")
        if len(set(self.options)) != len(self.options):
            raise ArchError(f"the options of a choice differ from each other: {self.name} has {self.options}")


class SearchSpace:
    """Named choices, some of which exist only under others.

    Args:
        name: Name of the space.
        choices: In an order in which parents come before what depends on them.

    Raises:
        ArchError: Two choices share a name, or a condition names a choice that does not come before.
    """

    def __init__(self, name: str, choices: Sequence[Choice]) -> None:
        self.name = name
        self.choices = tuple(choices)
        self._by_name = {choice.name: choice for choice in self.choices}
        if len(self._by_name) != len(self.choices):
            names = [choice.name for choice in self.choices]
            raise ArchError(f"choices are named once: {sorted({n for n in names if names.count(n) > 1})} come twice")
        seen: dict[str, Choice] = {}
        for choice in self.choices:
            if choice.active_if is not None:
                parent, options = choice.active_if
                if parent not in seen or not set(options) <= set(seen[parent].options):
                    raise ArchError(
                        f"a condition names a choice that comes before and options it has: {choice.name} has {choice.active_if}"
                    )
            seen[choice.name] = choice
        offsets = np.cumsum([0] + [len(choice.options) for choice in self.choices])
        self._columns = {
            (choice.name, option): int(offsets[i]) + j
            for i, choice in enumerate(self.choices)
            for j, option in enumerate(choice.options)
        }

    @property
    def width(self) -> int:
        """Number of columns of `encode`."""
        return len(self._columns)

    def __getitem__(self, name: str) -> Choice:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __add__(self, other: SearchSpace) -> SearchSpace:
        """Return the space whose architectures pick from both."""
        return SearchSpace(f"{self.name}+{other.name}", self.choices + other.choices)

    def is_active(self, choice: Choice, picks: Mapping[str, Option]) -> bool:
        """Return whether `choice` exists under `picks`, which hold its active ancestors."""
        return choice.active_if is None or picks.get(choice.active_if[0]) in choice.active_if[1]

    def arch(self, picks: Mapping[str, Option]) -> ArchConfig:
        """Return the canonical architecture: every active choice, nothing else.

        Args:
            picks: An option for every active choice. Options of inactive choices are checked and dropped.

        Raises:
            ArchError: An unknown choice, a missing one, or an option that is not allowed; the message names it.
        """
        for name in picks:
            if name not in self._by_name:
                raise ArchError(f"{name!r} is no choice of space {self.name!r}; {nearest(name, self._by_name)}")
        canonical: dict[str, Option] = {}
        for choice in self.choices:
            if choice.name in picks and picks[choice.name] not in choice.options:
                value = picks[choice.name]
                raise ArchError(f"{choice.name} = {value!r} is not allowed; {nearest(value, choice.options)}")
            if not self.is_active(choice, canonical):
                continue
            if choice.name not in picks:
                raise ArchError(f"{choice.name} has no pick; choose one of {', '.join(map(str, choice.options))}")
            # The option as the space spells it, so that 1 and 1.0 have one key.
            canonical[choice.name] = choice.options[choice.options.index(picks[choice.name])]
        return ArchConfig(canonical)

    def smallest(self) -> ArchConfig:
        """Return the architecture that picks every first option."""
        return self.arch({choice.name: choice.options[0] for choice in self.choices})

    def largest(self) -> ArchConfig:
        """Return the architecture that picks every last option."""
        return self.arch({choice.name: choice.options[-1] for choice in self.choices})

    def sample(self, rng: np.random.Generator) -> ArchConfig:
        """Return an architecture whose every active choice is picked uniformly."""
        return self.arch({choice.name: choice.options[rng.integers(len(choice.options))] for choice in self.choices})

    def mutate(self, arch: ArchConfig, rng: np.random.Generator, flips: int = 1) -> ArchConfig:
        """Return a neighbour: `flips` active choices take another option; choices that wake up are picked uniformly.

        An architecture whose active choices all have one option comes back as it is.
        """
        free = [name for name in arch if len(self[name].options) > 1]
        picks: dict[str, Option] = {choice.name: choice.options[rng.integers(len(choice.options))] for choice in self.choices}
        picks.update(arch)
        for index in rng.permutation(len(free))[:flips]:
            others = [option for option in self[free[index]].options if option != arch[free[index]]]
            picks[free[index]] = others[rng.integers(len(others))]
        return self.arch(picks)

    def cross(self, left: ArchConfig, right: ArchConfig, rng: np.random.Generator) -> ArchConfig:
        """Return a child that takes each choice from one of its parents with equal chance."""
        picks: dict[str, Option] = {}
        for choice in self.choices:
            held = [parent[choice.name] for parent in (left, right) if choice.name in parent]
            picks[choice.name] = held[rng.integers(len(held))] if held else choice.options[rng.integers(len(choice.options))]
        return self.arch(picks)

    def count(self) -> int:
        """Return the number of distinct architectures (each choice has one parent, so the conditions form a forest)."""
        children: dict[str, list[Choice]] = {choice.name: [] for choice in self.choices}
        for choice in self.choices:
            if choice.active_if is not None:
                children[choice.active_if[0]].append(choice)

        def below(choice: Choice) -> int:
            return sum(
                math.prod(below(child) for child in children[choice.name] if child.active_if and option in child.active_if[1])
                for option in choice.options
            )

        return math.prod(below(choice) for choice in self.choices if choice.active_if is None)

    def enumerate(self) -> Iterator[ArchConfig]:
        """Yield every architecture once, the first choice varying slowest."""

        def extend(index: int, picks: dict[str, Option]) -> Iterator[ArchConfig]:
            if index == len(self.choices):
                yield ArchConfig(picks)
                return
            choice = self.choices[index]
            if not self.is_active(choice, picks):
                yield from extend(index + 1, picks)
                return
            for option in choice.options:
                yield from extend(index + 1, {**picks, choice.name: option})

        return extend(0, {})

    def encode(self, archs: Sequence[ArchConfig]) -> FloatArray:
        """Return one-hot rows of shape (n, width); inactive positions are zero."""
        rows = np.zeros((len(archs), self.width))
        for i, arch in enumerate(archs):
            for pick in arch.items():
                rows[i, self._columns[pick]] = 1.0
        return rows

    def decode(self, row: FloatArray) -> ArchConfig:
        """Return the architecture that `encode` maps to `row`, of shape (width,)."""
        return self.arch({name: option for (name, option), column in self._columns.items() if row[column] > 0.5})

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self.choices)} choices, {self.count():.3g} architectures)"
