"""Array types used across floors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Codes = NDArray[np.int16]  # many architectures, (n, choices): index of the picked option, -1 where the choice is inactive
