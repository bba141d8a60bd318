"""How many GPUs a worker takes: a share of those that there are, which need not be of the driver's machine."""

from __future__ import annotations

import math

from nas.core import DeviceError, TrainingSpec
from nas.service.executors import Executor


def gpu_share(executor: Executor, training: TrainingSpec, workers: int) -> float:
    """Return the GPUs that each of several workers takes: one, or a part of one where there are more workers than GPUs.

    The parts fit: as many workers as have to share a GPU take the same part of it.

    Args:
        executor: Knows the GPUs.
        training: Says whether they are wanted.
        workers: That run at once.

    Raises:
        DeviceError: The job asks for CUDA and there is no GPU.
    """
    gpus = wanted_gpus(executor, training)
    return 1.0 / math.ceil(workers / gpus) if gpus else 0.0


def wanted_gpus(executor: Executor, training: TrainingSpec) -> int:
    """Return the GPUs that a job may use, none where it is to run on processors.

    Raises:
        DeviceError: The job asks for CUDA and there is no GPU.
    """
    if training.device == "cpu":
        return 0
    if training.device == "cuda" and not executor.gpus:
        raise DeviceError("training.device is cuda, and there is no GPU here nor in the Ray cluster; write auto or cpu")
    return executor.gpus
