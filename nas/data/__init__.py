"""Data sets: one file each, and the loader for a user's own."""

from nas.data.batches import batches
from nas.data.dataset import IGNORE_IMAGE, IGNORE_PIXEL, MultiTaskData, Split, input_spec, shard
from nas.data.loading import data_options, known_shape, known_tasks, load_data

__all__ = [
    "IGNORE_IMAGE",
    "IGNORE_PIXEL",
    "MultiTaskData",
    "Split",
    "batches",
    "data_options",
    "input_spec",
    "known_shape",
    "known_tasks",
    "load_data",
    "shard",
]
