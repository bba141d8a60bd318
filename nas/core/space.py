"""A search space is an algebra of choices: it samples, mutates, enumerates, counts, validates, encodes and adds up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.core.arch import ArchConfig, Option
from nas.core.errors import ArchError, nearest
from nas.core.types import Codes, FloatArray


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


@dataclass(frozen=True, slots=True)
class Aliases:
    """Tells which picks name the same network where conditions alone cannot, so that no network has two names.

    Attributes:
        choices: Names of the choices that it reads and renames, in the order of the space, their parents among them. No two
            aliases of a space share one.
        resolve: From codes of shape (n, len(choices)), -1 where a choice is inactive, to those of the one name. It leaves a
            name that it gave as it is, keeps what is inactive, and renames a choice by those before it alone.
    """

    choices: tuple[str, ...]
    resolve: Callable[[Codes], Codes]


class SearchSpace:
    """Named choices, some of which exist only under others.

    Args:
        name: Name of the space.
        choices: In an order in which parents come before what depends on them.
        aliases: Which picks are several names of one network.

    Raises:
        ArchError: Two choices share a name, or a condition names a choice that does not come before.
    """

    def __init__(self, name: str, choices: Sequence[Choice], aliases: Sequence[Aliases] = ()) -> None:
        self.name = name
        self.choices = tuple(choices)
        self.aliases = tuple(aliases)
        self._by_name = {choice.name: choice for choice in self.choices}
        self._index = {choice.name: i for i, choice in enumerate(self.choices)}
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
        return SearchSpace(f"{self.name}+{other.name}", self.choices + other.choices, self.aliases + other.aliases)

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
        return ArchConfig(self._renamed(canonical))

    def resolve(self, codes: Codes) -> Codes:
        """Return codes in which every network has its one name.

        Args:
            codes: Index of the option of each choice, shape (n, choices); -1 wherever a choice is inactive.
        """
        for alias in self.aliases:
            columns = [self._index[name] for name in alias.choices]
            codes = codes.copy()
            codes[:, columns] = alias.resolve(codes[:, columns])
        return codes

    def _renamed(self, picks: dict[str, Option]) -> dict[str, Option]:
        """Return picks of active choices under the network's one name; choices that are not picked yet stay so."""
        for alias in self.aliases:
            chosen = [self._by_name[name] for name in alias.choices]
            row = [c.options.index(picks[c.name]) if c.name in picks else -1 for c in chosen]
            found = alias.resolve(np.array([row], dtype=np.int16))[0].tolist()
            picks = picks | {c.name: c.options[code] for c, code in zip(chosen, found, strict=True) if code >= 0}
        return picks

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

    def count(self, most: int | None = None) -> int:
        """Return the number of distinct architectures.

        Args:
            most: Where counting may stop: a result of at least `most` says that there are so many, perhaps more. Trees of eight
                tasks have millions of names, and to walk through all of them takes minutes and gigabytes.

        Each choice has one parent, so the conditions form a forest: products over choices, sums over options. Choices that
        name a network in several ways are walked through, each way of picking them once.
        """
        children: dict[str, list[Choice]] = {choice.name: [] for choice in self.choices}
        for choice in self.choices:
            if choice.active_if is not None:
                children[choice.active_if[0]].append(choice)
        walked = {name for alias in self.aliases for name in alias.choices}

        def below(choice: Choice) -> int:
            return sum(under(choice, option) for option in choice.options)

        def under(choice: Choice, option: Option) -> int:
            woken = (child for child in children[choice.name] if child.active_if and option in child.active_if[1])
            return math.prod(below(child) for child in woken if child.name not in walked)

        total = math.prod(below(c) for c in self.choices if c.active_if is None and c.name not in walked)
        for alias in self.aliases:
            chosen = [self._by_name[name] for name in alias.choices]
            ways = [[*(under(choice, option) for option in choice.options), 1] for choice in chosen]  # -1: inactive
            walked_through, whole = _walk(chosen, alias, most)
            total *= sum(math.prod(ways[i][code] for i, code in enumerate(row)) for row in walked_through.tolist())
            if most is not None and not whole:
                total = max(total, most)
        return total

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
                extended = {**picks, choice.name: option}
                if self._renamed(extended) == extended:
                    yield from extend(index + 1, extended)

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
        return f"SearchSpace({self.name!r}, {len(self.choices)} choices, {self.count(10_000):.3g} architectures or more)"


def _walk(choices: Sequence[Choice], alias: Aliases, most: int | None) -> tuple[Codes, bool]:
    """Return the codes of every way to pick `choices`, each network under its one name, shape (n, len(choices)).

    Args:
        choices: Those of the alias.
        alias: Gives each network its one name.
        most: Ways that are gone on with at every choice; None goes on with all.

    Returns:
        The codes, and whether they are all there are.
    """
    whole = True
    column = {choice.name: i for i, choice in enumerate(choices)}
    codes: Codes = np.full((1, len(choices)), -1, dtype=np.int16)
    for i, choice in enumerate(choices):
        active = np.ones(len(codes), dtype=bool)
        if choice.active_if is not None:
            parent, options = choice.active_if
            wakes = [choices[column[parent]].options.index(option) for option in options]
            active = np.isin(codes[:, column[parent]], wakes)
        more = np.repeat(codes[active], len(choice.options), axis=0)
        more[:, i] = np.tile(np.arange(len(choice.options)), int(active.sum()))
        codes = np.concatenate([codes[~active], more])
        codes = codes[(alias.resolve(codes) == codes).all(axis=1)]
        if most is not None and len(codes) > most:
            codes, whole = codes[:most], False
    return codes, whole
