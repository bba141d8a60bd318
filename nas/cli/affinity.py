"""The command that compares a job's tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from nas.cli.options import FormatOption, JobArgument, StoreOption, opened
from nas.cli.tables import show
from nas.cli.trusting import ask
from nas.core.affinity import Affinity

TITLES = {
    "rsa": "RSA affinity: 1 where two tasks find the same images alike, 0 at the task that differs the most (rows scaled)",
    "closeness": "closeness: the same on a scale that all layers share, from which the trees are grown",
    "covariance": "covariance similarity: 1 where representations vary along the same directions",
    "gradients": "gradient cosine on the shared weights: mean over batches",
}
ORIGINS = {
    "twins": "representations are those of the single-task twins",
    "branches": "representations are those of each task's own branches of the supernet",
    "gradients": "without twins, and in a space that does not branch, no task has representations of its own: gradients alone, "
    "and no widths; training.twins: true in the job file gives the rest",
}


def affinity(ctx: typer.Context, job: JobArgument = "latest", form: FormatOption = "table", store: StoreOption = None) -> None:
    """Compare the tasks of a trained job layer by layer, and propose where they should part."""
    opened_store = opened(ctx, store)
    record = opened_store.job(job)
    ask(record.spec)
    from nas.service.affinity import affinity as compare

    found = compare(opened_store, record.id)
    if form == "json":
        typer.echo(found.to_json())
    elif form == "csv":
        show(list(_pairs(found)), form)
    else:
        _print(found)


def _pairs(found: Affinity) -> Iterator[dict[str, Any]]:
    """Yield a row per measure, layer and two different tasks."""
    for measure, values in found.measures().items():
        for layer, matrix in enumerate(values.tolist()):
            for i, task in enumerate(found.tasks):
                for j, other in enumerate(found.tasks):
                    if i != j:
                        value = matrix[i][j] if matrix[i][j] == matrix[i][j] else None  # not a number: not known
                        yield {"measure": measure, "layer": layer, "task": task, "other": other, "value": value}


def _print(found: Affinity) -> None:
    typer.echo(f"{ORIGINS[found.origin]}; {found.images} images" if found.images else ORIGINS[found.origin])
    pairs = list(_pairs(found))
    for measure in found.measures():
        typer.echo(TITLES[measure])
        rows: dict[tuple[int, str], dict[str, Any]] = {}
        for pair in (pair for pair in pairs if pair["measure"] == measure):
            start = {"layer": pair["layer"], "task": pair["task"]} | dict.fromkeys(found.tasks, 1.0)
            rows.setdefault((pair["layer"], pair["task"]), start)[pair["other"]] = pair["value"]
        show(list(rows.values()), "table")
    if found.ranks is not None and found.channels is not None:
        typer.echo("capacity: directions that hold 99 % of what a task's representation varies by, of so many channels")
        ranks = [dict(zip(found.tasks, row, strict=True)) for row in found.ranks.tolist()]
        channels = found.channels.tolist()
        show([{"layer": i, **row, "channels": channels[i]} for i, row in enumerate(ranks)], "table")
    typer.echo("trees, from all shared to all parted, and how wide a branch need be")
    show([_tree_row(found, index) for index in range(len(found.trees))], "table")


def _tree_row(found: Affinity, index: int) -> dict[str, Any]:
    tree = found.trees[index]
    widths = " › ".join(" ".join(f"{ratio:.2f}" for ratio in layer.values()) for layer in tree.widths)
    return {
        "tree": tree.name,
        "dissimilarity": tree.dissimilarity,
        "full macs": tree.full_macs,
        "enough width": widths,
        "macs": tree.macs,
        "key": tree.arch.key if tree.arch else None,
    }
