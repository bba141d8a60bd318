"""What is known of how alike a job's tasks are, layer by layer, and which trees follow from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nas.core.arch import ArchConfig
from nas.core.branching import Partition
from nas.core.types import FloatArray

AFFINITY = "affinity"  # kind of the artifact
Origin = Literal["twins", "branches", "gradients"]


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the tasks may part.

    Attributes:
        partitions: Of the tasks, one per layer.
        widths: Per layer, first task of a branch to the width that is enough for its tasks, as a share of the full channels;
            empty where no representation of a task alone is known.
        dissimilarity: Sum over layers and pairs of tasks that share one of 1 - affinity; 0 where nothing is shared.
        arch: The tree at the suggested widths, in a space that branches.
        macs: Of `arch`.
        full_macs: Of the tree at full widths.
    """

    partitions: tuple[Partition, ...]
    widths: tuple[Mapping[str, float], ...]
    dissimilarity: float
    arch: ArchConfig | None = None
    macs: float | None = None
    full_macs: float | None = None

    @property
    def name(self) -> str:
        """The layers' partitions in short: ``seg+depth normals ×2 › seg depth normals``."""
        layers = [" ".join("+".join(block) for block in partition) for partition in self.partitions]
        runs = [[layer, 1] for layer in layers[:1]]
        for layer in layers[1:]:
            if layer == runs[-1][0]:
                runs[-1][1] += 1  # type: ignore[operator]
            else:
                runs.append([layer, 1])
        return " › ".join(f"{layer} ×{count}" for layer, count in runs)


@dataclass(frozen=True, slots=True)
class Affinity:
    """How alike the tasks are in each layer of the encoder.

    Attributes:
        tasks: Names, in the job's order.
        origin: Whose representations are compared: those of the single-task ``twins``, those of each task's own ``branches``
            of the supernet, or none, when ``gradients`` alone are known.
        sources: Digest of every checkpoint that was read, 16 digits, by ``supernet`` or the twin's task.
        images: Training images that were compared.
        rsa: Affinity A_l(i, j) = 1 - D_l(i, j) over the largest D in row i, shape (layers, tasks, tasks); None without
            representations. Rows are scaled on their own: of two tasks the affinity is 0, unless they are identical.
        closeness: 1 less the distance of the same similarities on a scale that layers and jobs share, symmetric.
        covariance: Covariance similarity, 1 on itself.
        gradients: Mean cosine of the losses' gradients on the shared weights; NaN where a task has no gradient.
        spread: Its standard deviation over the batches.
        ranks: Directions that hold 99 % of the variance of a task's representation, shape (layers, tasks).
        channels: Of one layer of a task alone, shape (layers,).
        trees: From the one where all is shared to the one where nothing is.
    """

    tasks: tuple[str, ...]
    origin: Origin
    sources: Mapping[str, str]
    images: int
    rsa: FloatArray | None
    closeness: FloatArray | None
    covariance: FloatArray | None
    gradients: FloatArray
    spread: FloatArray
    ranks: FloatArray | None
    channels: FloatArray | None
    trees: tuple[Tree, ...] = ()

    @property
    def affinity(self) -> FloatArray:
        """What trees are grown from, in [0, 1], symmetric, shape (layers, tasks, tasks).

        The closeness of representations, else (1 + cosine of the gradients) / 2.
        """
        return self.closeness if self.closeness is not None else (1 + np.nan_to_num(self.gradients)) / 2

    def measures(self) -> dict[str, FloatArray]:
        """Return what is known by its name, each of shape (layers, tasks, tasks)."""
        known = {"rsa": self.rsa, "closeness": self.closeness, "covariance": self.covariance, "gradients": self.gradients}
        return {name: values for name, values in known.items() if values is not None}

    def to_json(self) -> str:
        """Return all of it as JSON; a number that is not known is null."""
        arrays = {name: _listed(getattr(self, name)) for name in _ARRAYS}
        trees = [
            {
                "name": tree.name,
                "partitions": [[list(block) for block in partition] for partition in tree.partitions],
                "widths": [dict(layer) for layer in tree.widths],
                "dissimilarity": tree.dissimilarity,
                "key": tree.arch.key if tree.arch else None,
                "arch": dict(tree.arch) if tree.arch else None,
                "macs": tree.macs,
                "full_macs": tree.full_macs,
            }
            for tree in self.trees
        ]
        facts = {"tasks": list(self.tasks), "origin": self.origin, "sources": dict(self.sources), "images": self.images}
        return json.dumps({**facts, **arrays, "trees": trees}, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Affinity:
        """Return what `to_json` wrote."""
        found: dict[str, Any] = json.loads(text)
        trees = tuple(
            Tree(
                tuple(tuple(tuple(block) for block in partition) for partition in each["partitions"]),
                tuple(each["widths"]),
                each["dissimilarity"],
                ArchConfig(each["arch"]) if each["arch"] else None,
                each["macs"],
                each["full_macs"],
            )
            for each in found["trees"]
        )
        arrays = {name: None if found[name] is None else np.array(found[name], dtype=np.float64) for name in _ARRAYS}
        return cls(tuple(found["tasks"]), found["origin"], found["sources"], found["images"], **arrays, trees=trees)  # type: ignore[arg-type]


def stored_affinity(path: Path) -> Affinity | None:
    """Return what a file holds that `Affinity.to_json` wrote; None where it is gone or damaged: it can be made again."""
    try:
        return Affinity.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


_ARRAYS = ("rsa", "closeness", "covariance", "gradients", "spread", "ranks", "channels")


def _listed(values: FloatArray | None) -> Any:
    """Return an array as nested lists, with None for what is no number."""
    if values is None:
        return None
    return [_listed(row) for row in values] if values.ndim else (float(values) if np.isfinite(values) else None)
