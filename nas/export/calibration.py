"""The ranges of activations, from one run of the float network over some images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from nas.core import ExportError
from nas.export.traced import BATCH

LARGEST = 255  # of an activation of 8 bits without a sign
SMALLEST_SPAN = 1e-12  # an activation that never leaves this is zero: its scale would leave the floats


@dataclass(frozen=True, slots=True)
class Range:
    """What values an activation takes; always holds zero, which padding and rectifiers need exactly.

    Attributes:
        low: Smallest, at most 0.
        high: Largest, at least 0.
        shape: Of the activation for one image.
    """

    low: float
    high: float
    shape: tuple[int, ...]

    @property
    def scale(self) -> float:
        """The step between neighbouring 8-bit values."""
        span = self.high - self.low
        return span / LARGEST if span > SMALLEST_SPAN else 1.0

    @property
    def zero_point(self) -> int:
        """The 8-bit value of zero."""
        return int(np.clip(np.rint(-self.low / self.scale), 0, LARGEST))


def ranges(model: onnx.ModelProto, values: Sequence[str], images: NDArray[np.float32]) -> dict[str, Range]:
    """Return the range of each of a float model's values over `images`: its extremes.

    Clipping the rare large values, as percentiles and averages of extremes do, was measured to cost more than it gives back.

    Args:
        model: The float model, of one image per batch or of any number.
        values: Names of values in it.
        images: Pixels in [0, 1], shape (n, channels, height, width).

    Raises:
        ExportError: A value is not finite on some image.
    """
    import onnxruntime

    image_name = model.graph.input[0].name
    made = [value for value in dict.fromkeys(values) if value != image_name]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=value) for value in made if value not in known)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name(BATCH, 1)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = {image_name: Range(0.0, 1.0, (1, *images.shape[1:]))} if image_name in values else {}
    low, high = np.zeros(len(made)), np.zeros(len(made))
    for image in images:
        arrays = session.run(made, {image_name: image[None]})
        low = np.minimum(low, [array.min() for array in arrays])
        high = np.maximum(high, [array.max() for array in arrays])
    for value, span in zip(made, high - low, strict=True):
        if not np.isfinite(span):
            raise ExportError(
                f"ranges are those of finite activations: {value} is not finite on some calibration image; the network itself "
                "overflows there, train it again or keep it in fp32"
            )
    return found | {value: Range(float(low[i]), float(high[i]), arrays[i].shape) for i, value in enumerate(made)}
