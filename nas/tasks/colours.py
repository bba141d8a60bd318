"""Colours of classes and of depth that people with colour-blindness can tell apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.core.task import NO_CLASS_BYTE

ImageArray = NDArray[np.uint8]

# Okabe and Ito (2008), eight colours chosen for colour-blind readers; black is left to what is ignored.
OKABE_ITO = ("56B4E9", "E69F00", "009E73", "CC79A7", "0072B2", "F0E442", "D55E00", "BBBBBB")
VIRIDIS = (
    "440154",
    "482878",
    "3E4989",
    "31688E",
    "26828E",
    "1F9E89",
    "35B779",
    "6ECE58",
    "B5DE2B",
    "FDE725",
)  # Smith, van der Walt
IGNORED = (40, 40, 40)
ROUNDS = 10  # of darker hues; an eleventh could not be told from black


def _rgb(codes: tuple[str, ...]) -> NDArray[np.float64]:
    return np.array([tuple(bytes.fromhex(code)) for code in codes], dtype=float)


def class_colours(classes: NDArray[np.integer], valid: NDArray[np.bool_] | None = None) -> ImageArray:
    """Return (h, w, 3) for classes (h, w): eight hues, each round of eight darker than the last, and anew after ten rounds.

    Args:
        classes: From 0.
        valid: Which pixels hold a class, (h, w); the others are dark grey. None means all but those of 255.
    """
    classes = np.asarray(classes)
    valid = classes != NO_CLASS_BYTE if valid is None else valid
    palette = np.concatenate([_rgb(OKABE_ITO) * 0.8**i for i in range(ROUNDS)])
    colours = palette.round().astype(np.uint8)[classes.astype(np.int64) % len(palette)]
    result: ImageArray = np.where(valid[..., None], colours, np.array(IGNORED, dtype=np.uint8))
    return result


def depth_colours(metres: NDArray[np.floating], limits: tuple[float, float]) -> ImageArray:
    """Return (h, w, 3) for depth (h, w): viridis from the first limit to the second, black where invalid."""
    anchors = _rgb(VIRIDIS)
    low, high = limits
    valid = np.isfinite(metres) & (metres > 0)
    share = np.clip((np.where(valid, metres, low) - low) / (high - low), 0, 1) * (len(anchors) - 1)
    picture = np.stack([np.interp(share, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)], axis=-1)
    return np.where(valid[..., None], picture, 0).round().astype(np.uint8)
