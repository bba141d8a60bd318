"""What only loading the data tells, said before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nas.core import ArchConfig, DataError, JobSpec
from nas.data import MultiTaskData
from nas.service.context import JobContext
from nas.service.jobchecks import check_enough
from nas.service.objectivechecks import check_measured
from nas.supernet import SpaceDefinition
from nas.tasks import task_kind
from nas.train.evaluator import calibration_count


def check_ready(context: JobContext) -> None:
    """Check a job's objectives, labels, space and batches against its data; the driver calls it before the first stage.

    Raises:
        UserError: The first rule that is broken, with what was found and what to write.
    """
    spec, data = context.spec, context.data
    check_measured(spec, data.tasks)
    for unlabelled in check_labels(spec, data):
        context.store.log(context.job, f"{unlabelled} has no labels: that task is not measured there", "warning")
    definition = context.definition
    check_enough(definition.space)
    check_batches(spec, data, definition, training_processes(spec, len(data.train), context.executor.concurrent))


def training_processes(spec: JobSpec, images: int, concurrent: bool) -> int:
    """Return how many processes train: as many as the job asks for, but no more than there are images."""
    return max(1, min(spec.training.workers, images)) if concurrent else 1


def check_labels(spec: JobSpec, data: MultiTaskData) -> list[str]:
    """Return the splits and tasks without any label that no objective needs, as ``DATA.SPLIT.TASK``.

    Raises:
        DataError: Nothing to learn a task from, or nothing to measure an objective on.
    """
    needed = {objective.metric: objective.metric.partition(".")[2] for objective in spec.objectives}
    unlabelled = []
    for label, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        for task in data.tasks:
            if int(task_kind(task.kind).labelled(split.targets[task.name], task.outputs)):
                continue
            where = f"{data.name}.{label}.{task.name}"
            if label == "train":
                raise DataError(f"a task has labels to learn from: {where} has none; label some images, or remove the task")
            for metric, name in needed.items():
                if name == task.name or metric == "delta_m":
                    raise DataError(
                        f"an objective is measured on labels: {where} has none, and {metric} is one; label some images, or "
                        f"remove {metric} from objectives"
                    )
            unlabelled.append(where)
    return unlabelled


def check_batches(spec: JobSpec, data: MultiTaskData, definition: SpaceDefinition, processes: int) -> None:
    """Raise where batch norm would meet a single value per channel: one image at a time, shrunk to one pixel.

    Raises:
        DataError: Which batch it is, and what to write.
    """
    images, training = len(data.train), spec.training
    if calibration_count(spec.search.calibration_images, images) == 1:
        where, remedy = "batch norms are recalibrated on 1 image", "write search.calibration_images: 2 or more"
    elif min(training.batch_size // processes, images // processes) <= 1:
        several = f", {processes} processes" if processes > 1 else ""
        where = f"a process trains on 1 image at a time (training.batch_size {training.batch_size}{several})"
        remedy = f"write training.batch_size: {2 * processes} or more"
    else:
        return
    if images < 2 * processes:
        remedy = f"give at least {2 * processes} training images: there are {images}"
    space = definition.space
    if normalises_one_value(definition, list(dict.fromkeys((definition.teacher, space.largest(), space.smallest())))):
        size = f"{data.input.height}x{data.input.width}"
        raise DataError(
            f"batch norm needs two values of a channel or more: this space shrinks images of {size} to one pixel, and {where}; "
            f"{remedy}"
        )


def normalises_one_value(definition: SpaceDefinition, archs: Sequence[ArchConfig]) -> bool:
    """Return whether a network in training normalises a single value per channel of one image; shapes alone are computed."""
    shape = (1, definition.input.channels, definition.input.height, definition.input.width)
    for arch in archs:
        with torch.device("meta"), torch.no_grad():
            try:
                definition.build(arch).train()(torch.zeros(shape))
            except ValueError as error:
                if "more than 1 value per channel" in str(error):
                    return True
            except Exception:
                pass
    return False
