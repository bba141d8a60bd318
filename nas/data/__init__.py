"""Data sets: one file each, and the loader for a user's own."""

from nas.data.batches import batches
from nas.data.dataset import IGNORE_IMAGE, IGNORE_PIXEL, MultiTaskData, Split, input_spec, shard
from nas.data.kept import check_same, digests, keep, open_kept
from nas.data.loading import data_options, known_shape, known_tasks, load_data
from nas.data.python import find_function

__all__ = [
    "IGNORE_IMAGE",
    "IGNORE_PIXEL",
    "MultiTaskData",
    "Split",
    "batches",
    "check_same",
    "data_options",
    "digests",
    "find_function",
    "input_spec",
    "keep",
    "known_shape",
    "known_tasks",
    "load_data",
    "open_kept",
    "shard",
]
