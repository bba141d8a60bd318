"""Fronts and hypervolume against a brute force, Optuna's own implementation, and closed forms."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from optuna._hypervolume import compute_hypervolume
from random_spaces import quick

from nas.core import FloatArray, hypervolume, pareto_mask

# Few distinct values, so that ties and duplicates are common.
grid = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0])
with_holes = st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf, -math.inf])
shapes = st.tuples(st.integers(0, 12), st.integers(1, 4))


def on_front(rows: FloatArray, i: int) -> bool:
    """Return whether row i has no NaN and no other row is as good everywhere and better somewhere, one pair at a time."""
    if any(math.isnan(v) for v in rows[i]):
        return False
    for other in rows:
        if any(math.isnan(v) for v in other):
            continue
        if all(a <= b for a, b in zip(other, rows[i], strict=True)) and any(a < b for a, b in zip(other, rows[i], strict=True)):
            return False
    return True


@quick
@given(values=arrays.arrays(float, shapes, elements=grid | with_holes))
def test_the_mask_is_that_of_all_pairs(values: FloatArray) -> None:
    assert pareto_mask(values).tolist() == [on_front(values, i) for i in range(len(values))]


def test_duplicates_are_all_kept_and_nan_never() -> None:
    values = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [0.0, math.nan]])
    assert pareto_mask(values).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("everything_on_front", [False, True])
def test_ten_thousand_rows_of_five_columns_take_no_time(everything_on_front: bool) -> None:
    values = np.random.default_rng(0).random((8_000, 5))
    if everything_on_front:
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    began = time.process_time()
    mask = pareto_mask(values)
    assert time.process_time() - began < 2  # 0.2 s on a quiet core; a comparison of row after row took 8 s
    assert bool(mask.all()) == everything_on_front
    on, off = values[mask], values[~mask]
    assert all(((on <= row).all(axis=1) & (on < row).any(axis=1)).any() for row in off)
    assert not any(((on <= row).all(axis=1) & (on < row).any(axis=1)).any() for row in on[:500])


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (4, 0)])
def test_an_empty_input_gives_an_empty_mask(shape: tuple[int, int]) -> None:
    mask = pareto_mask(np.zeros(shape))
    assert mask.dtype == bool
    assert mask.tolist() == [False] * shape[0]


@quick
@given(values=arrays.arrays(float, shapes, elements=grid | st.floats(-5, 6)))
def test_the_hypervolume_is_that_of_optuna(values: FloatArray) -> None:
    reference = np.full(values.shape[1], 4.0)
    # Optuna asks for points at or below the reference; a point that is not below it everywhere dominates no volume.
    inside = values[(values <= reference).all(axis=1)]
    assert hypervolume(values, reference) == pytest.approx(compute_hypervolume(inside, reference), rel=1e-9, abs=1e-9)


@quick
@given(values=arrays.arrays(np.int64, shapes, elements=st.integers(0, 5)))
def test_the_hypervolume_is_the_number_of_unit_cells(values: np.ndarray) -> None:
    m = values.shape[1]
    corners = np.stack(np.meshgrid(*[np.arange(5)] * m, indexing="ij"), axis=-1).reshape(-1, m)  # lower corners of the cells
    dominated = (values[:, None] <= corners[None]).all(axis=2).any(axis=0) if len(values) else np.zeros(len(corners), bool)
    assert hypervolume(values.astype(float), np.full(m, 5.0)) == pytest.approx(float(dominated.sum()))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_one_point_dominates_a_box(dimensions: int) -> None:
    point = np.arange(1.0, 1.0 + dimensions)
    reference = np.full(dimensions, 6.0)
    assert hypervolume(point[None], reference) == pytest.approx(math.prod(6.0 - v for v in point))


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_unit_vectors_miss_a_unit_cube(dimensions: int) -> None:
    # Point i is 1 in coordinate i and 0 elsewhere: it covers every x with x_i >= 1, so all of them together miss only the
    # unit cube at the origin.
    assert hypervolume(np.eye(dimensions), np.full(dimensions, 3.0)) == pytest.approx(3.0**dimensions - 1.0)


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.array([]), np.array([[2.0, 0.0]]), np.array([[math.nan, 0.0]])])
def test_nothing_below_the_reference_has_no_volume(points: FloatArray) -> None:
    assert hypervolume(points, np.array([2.0, 2.0])) == 0.0
