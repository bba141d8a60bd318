"""Task kinds: loss, metrics, and how a prediction is drawn."""

from nas.core import DataError, nearest
from nas.tasks.classification import Classification
from nas.tasks.depth import Depth
from nas.tasks.kind import ImageArray, Meter, TaskKind, evaluation_metrics
from nas.tasks.normals import Normals
from nas.tasks.segmentation import Segmentation

KINDS: dict[str, TaskKind] = {
    "classification": Classification(),
    "segmentation": Segmentation(),
    "depth": Depth(),
    "normals": Normals(),
}


def task_kind(kind: str) -> TaskKind:
    """Return the task kind called `kind`.

    Raises:
        DataError: There is none; the message names the nearest.
    """
    if kind not in KINDS:
        raise DataError(f"there is no task kind {kind!r}; {nearest(kind, KINDS)}")
    return KINDS[kind]


__all__ = ["KINDS", "ImageArray", "Meter", "TaskKind", "evaluation_metrics", "task_kind"]
