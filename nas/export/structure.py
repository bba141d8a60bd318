"""Which networks are the same graph with weights of other sizes, so that exporting one of them serves for all.

The subnets of a space that differ in widths alone run the same operators in the same order; what differs is stored in weights.
The structure of a module says everything about it but the sizes of its channels.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from torch import nn

# What torch's own layers call their numbers of channels; every other attribute is structure, such as a stride.
CHANNELS = frozenset(
    {
        *("in_channels", "out_channels", "in_features", "out_features", "in1_features", "in2_features"),
        *("num_features", "num_channels", "normalized_shape", "num_embeddings", "embedding_dim", "embed_dim"),
        *("kdim", "vdim", "head_dim", "input_size", "hidden_size"),
    }
)
NOT_STRUCTURE = frozenset({*vars(nn.Module()), "training"})
TORCH = "torch.nn."


def structure(module: nn.Module) -> str:
    """Return what identifies the graph of a module, 24 hexadecimal digits; modules that have it in common differ in sizes only.

    Layers of torch count with their type and their settings but the numbers of channels. A module of another kind counts with
    every attribute it stores, as any of them may shape the graph: one that stores its own width shares its graph with nobody.
    """
    parts = [(path, type(part).__module__, type(part).__qualname__, _settings(part)) for path, part in module.named_modules()]
    tensors = [(name, tensor.ndim, str(tensor.dtype)) for name, tensor in module.state_dict(keep_vars=True).items()]
    return hashlib.sha256(json.dumps([parts, tensors], default=_told).encode()).hexdigest()[:24]


def _settings(part: nn.Module) -> dict[str, Any]:
    hidden = CHANNELS if type(part).__module__.startswith(TORCH) else frozenset()
    return {name: value for name, value in sorted(vars(part).items()) if name not in NOT_STRUCTURE and name not in hidden}


def _told(value: object) -> str:
    """Return what JSON cannot hold as text: values by what they print, others by their type."""
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else f"{type(value).__qualname__}:{text}"
