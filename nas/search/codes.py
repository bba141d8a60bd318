"""Many architectures as one integer matrix, for what is done to tens of thousands of them at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core import ArchConfig, BoolArray, Codes, FloatArray, SearchSpace


class Coder:
    """Translates between architectures and codes, and varies codes.

    Args:
        space: The space of the architectures.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.sizes = np.array([len(choice.options) for choice in space.choices])
        index = {choice.name: i for i, choice in enumerate(space.choices)}
        self._parents: list[tuple[int, BoolArray] | None] = []  # parent, and which of its options wake the choice
        for choice in space.choices:
            if choice.active_if is None:
                self._parents.append(None)
            else:
                parent, wakes = choice.active_if
                self._parents.append((index[parent], np.array([option in wakes for option in space[parent].options])))
        self._offsets = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        kinds: dict[tuple[object, int], int] = {}
        for choice in space.choices:
            for j in range(len(choice.options)):
                kinds.setdefault((choice.options, j), len(kinds))
        self._alike = np.zeros((int(self.sizes.sum()), len(kinds)))
        for offset, choice in zip(self._offsets, space.choices, strict=True):
            for j in range(len(choice.options)):
                self._alike[offset + j, kinds[choice.options, j]] = 1.0
        self._option_index = [{option: j for j, option in enumerate(choice.options)} for choice in space.choices]

    def encode(self, archs: Sequence[ArchConfig]) -> Codes:
        """Return the codes, shape (n, choices)."""
        codes = np.full((len(archs), len(self.sizes)), -1, dtype=np.int16)
        for column, (choice, indices) in enumerate(zip(self.space.choices, self._option_index, strict=True)):
            codes[:, column] = [indices[arch[choice.name]] if choice.name in arch else -1 for arch in archs]
        return codes

    def decode(self, codes: Codes) -> list[ArchConfig]:
        """Return the architectures of canonical codes."""
        choices = self.space.choices
        return [
            ArchConfig({choice.name: choice.options[j] for choice, j in zip(choices, row, strict=True) if j >= 0})
            for row in codes.tolist()
        ]

    def canonical(self, codes: Codes) -> Codes:
        """Return the codes with -1 wherever a choice is inactive under the others, and every network under its one name."""
        codes = codes.copy()
        for column, condition in enumerate(self._parents):
            if condition is not None:
                parent, wakes = condition
                picked = codes[:, parent]
                codes[~((picked >= 0) & wakes[picked]), column] = -1
        return self.space.resolve(codes)

    def one_hot(self, codes: Codes) -> FloatArray:
        """Return what `SearchSpace.encode` returns, shape (n, width)."""
        rows = np.zeros((len(codes), int(self.sizes.sum())))
        at, column = np.nonzero(codes >= 0)
        rows[at, self._offsets[column] + codes[at, column]] = 1.0
        return rows

    def features(self, codes: Codes) -> FloatArray:
        """Return what a surrogate sees: the one-hots, and how often each option is picked among choices that share options.

        Returns:
            Shape (n, width + number of distinct options).
        """
        rows = self.one_hot(codes)
        return np.hstack([rows, rows @ self._alike])

    def sample(self, levels: FloatArray, rng: np.random.Generator) -> Codes:
        """Return codes of every choice around a size level in [0, 1] each: binomial picks, 0 the smallest, 1 the largest."""
        return rng.binomial(self.sizes - 1, levels[:, None]).astype(np.int16)

    def fill(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """Return the codes with a random option wherever a choice is inactive."""
        return np.where(codes < 0, rng.integers(self.sizes, size=codes.shape), codes).astype(np.int16)

    def mutate(self, codes: Codes, flips: FloatArray, rng: np.random.Generator) -> Codes:
        """Return neighbours: each choice takes another option, so often that `flips`, shape (n,), are expected in a row."""
        change = rng.random(codes.shape) < flips[:, None] / len(self.sizes)
        steps = rng.integers(1, np.maximum(self.sizes, 2), size=codes.shape)
        return np.where(change, (codes + steps) % self.sizes, codes).astype(np.int16)

    def cross(self, left: Codes, right: Codes, rng: np.random.Generator) -> Codes:
        """Return children that take each choice from one of their parents with equal chance."""
        return np.where(rng.random(left.shape) < 0.5, left, right).astype(np.int16)
