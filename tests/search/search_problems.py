"""Small spaces and a toy problem with a known trade-off, for the contract tests of every searcher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core import ArchConfig, Choice, Evaluation, FloatArray, Objective, SearchSpace, Source

ERROR, COST = Objective("error.toy"), Objective("macs")
OBJECTIVES = (ERROR, COST)

# 2 · (1 + 1 · 5) = 12 architectures: `kernel` exists only beside a deep encoder.
DEPTH, KERNEL = Choice("depth", (1, 2)), Choice("kernel", (1, 3, 5, 7, 9), ("depth", (2,)))
TWELVE = SearchSpace("twelve", [Choice("head", ("plain", "wide")), DEPTH, KERNEL])
SINGLE = SearchSpace("single", [Choice("fixed", (1,)), Choice("width", (0.25, 0.5, 0.75, 1.0))])


def staged(stages: int = 5) -> SearchSpace:
    """Return stages of one to three layers, each with a width and, where the layer exists, a kernel."""
    choices = []
    for s in range(stages):
        choices += [Choice(f"stage{s}.depth", (1, 2, 3)), Choice(f"stage{s}.width", (0.25, 0.5, 0.75, 1.0))]
        choices += [
            Choice(f"stage{s}.layer{i}.kernel", (3, 5, 7), (f"stage{s}.depth", tuple(range(i + 1, 4)))) for i in range(3)
        ]
    return SearchSpace("staged", choices)


def random_space(seed: int) -> SearchSpace:
    """Return a space of two to six choices, some of which exist only under an earlier one."""
    rng = np.random.default_rng(seed)
    choices: list[Choice] = []
    for i in range(rng.integers(2, 7)):
        options = tuple(range(int(rng.integers(1, 5))))
        condition = None
        if choices and rng.random() < 0.5:
            parent = choices[rng.integers(len(choices))]
            awake = tuple(option for option in parent.options if rng.random() < 0.6)
            condition = (parent.name, awake) if awake else None
        choices.append(Choice(f"c{i}", options, condition))
    return SearchSpace(f"random{seed}", choices)


def toy_metrics(space: SearchSpace, archs: Sequence[ArchConfig]) -> FloatArray:
    """Return shape (n, 2): an error that falls with size, with diminishing returns and a liking for some options; a cost."""
    liked = np.random.default_rng(7).random(space.width)  # what each option is good for, the same in every run
    rank = np.concatenate([np.arange(len(choice.options)) for choice in space.choices])  # how large each option is
    picked = space.encode(archs)
    gain = picked @ (liked * np.sqrt(rank + 1)) / len(space.choices)
    return np.stack([np.exp(-2 * gain), 1 + picked @ (rank + 0.2)], axis=1)


def evaluate(space: SearchSpace, archs: Sequence[ArchConfig]) -> list[Evaluation]:
    rows = toy_metrics(space, archs)
    return [
        Evaluation(arch, {ERROR.metric: float(error), COST.metric: float(cost)}, Source.MEASURED, "search")
        for arch, (error, cost) in zip(archs, rows, strict=True)
    ]


def exact_cost(space: SearchSpace, archs: Sequence[ArchConfig]) -> FloatArray:
    return toy_metrics(space, archs)[:, 1]
