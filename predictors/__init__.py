"""Features in, mean and standard deviation out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.core import NotFoundError, Predictor, nearest
from predictors.gaussian_process import GaussianProcess
from predictors.relative import LogGaussianProcess
from predictors.transfer import Transfer

PREDICTORS: dict[str, type[GaussianProcess] | type[LogGaussianProcess]] = {
    "gaussian_process": GaussianProcess,
    "log_gaussian_process": LogGaussianProcess,
}


def make_predictor(name: str) -> Predictor:
    """Return a new predictor that is not fitted.

    Raises:
        NotFoundError: There is no predictor of this name.
    """
    return _kind(name)()


def from_state(name: str, state: Mapping[str, Any]) -> Predictor:
    """Return the fitted predictor whose `state` this is, as read back from JSON.

    Raises:
        NotFoundError: There is no predictor of this name.
    """
    return _kind(name).from_state(state)


def _kind(name: str) -> type[GaussianProcess] | type[LogGaussianProcess]:
    if name not in PREDICTORS:
        raise NotFoundError(f"a predictor is known by its name: {name!r} is none; {nearest(name, PREDICTORS)}")
    return PREDICTORS[name]


__all__ = ["PREDICTORS", "GaussianProcess", "LogGaussianProcess", "Transfer", "from_state", "make_predictor"]
