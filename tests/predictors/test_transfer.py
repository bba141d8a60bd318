"""Transfer to a new device: its prior, its choice of measurements, and recorded devices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nas.core import DataError, FloatArray
from predictors import Transfer, transfer
from predictors.quality import quality
from predictors.scaling import IntArray

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "nas"


def devices(rows: int = 300, count: int = 5, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """One-hots of six choices with three options, and latencies that are sums over them with costs of each device's own."""
    rng = np.random.default_rng(seed)
    features = np.eye(3)[rng.integers(3, size=(rows, 6))].reshape(rows, 18)
    costs = np.tile([1.0, 2.0, 4.0], 6)[:, None] * rng.uniform(0.4, 1.6, (18, count))
    return features, features @ costs * np.exp(0.02 * rng.standard_normal((rows, count)))


def test_ten_measurements_rank_a_new_device() -> None:
    features, all_ms = devices()
    model = Transfer(features, all_ms[:, :4])
    rows, new_ms = model.rows(features, all_ms[:, :4]), all_ms[:, 4]
    chosen = model.choose(10, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 10
    model.fit(rows[chosen], new_ms[chosen])
    rest = np.setdiff1d(np.arange(300), chosen)
    result = quality(new_ms[rest], *model.predict(rows[rest]))
    of_a_known_device = max(stats.spearmanr(all_ms[rest, known], new_ms[rest]).statistic for known in range(4))
    assert result["spearman"] > 0.5 * (1.0 + of_a_known_device)  # at least half of what the best known device leaves
    assert 0.8 <= result["coverage_90"] <= 1.0


def test_chosen_measurements_leave_less_variance_than_random_ones() -> None:
    features, all_ms = devices(rows=100)
    model = Transfer(features, all_ms)
    coordinates = model._design_coordinates(model.rows(features, all_ms))
    covariance = coordinates @ coordinates.T

    def left(chosen: IntArray) -> float:
        among = covariance[np.ix_(chosen, chosen)] + transfer.DESIGN_NOISE * np.eye(len(chosen))
        return float(np.trace(covariance - covariance[:, chosen] @ np.linalg.solve(among, covariance[chosen])))

    rng = np.random.default_rng(0)
    chosen = model.choose(8, rng)
    assert left(chosen[:1]) == pytest.approx(min(left(np.array([row])) for row in range(100)))
    assert left(chosen[:2]) == pytest.approx(min(left(np.array([chosen[0], row])) for row in range(100) if row != chosen[0]))
    assert left(chosen) < min(left(rng.permutation(100)[:8]) for _ in range(50))


def test_the_posterior_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    seen = tuple(rng.standard_normal((6, width)) for width in (1, 3, 5))
    new = tuple(rng.standard_normal((4, width)) for width in (1, 3, 5))
    targets = rng.standard_normal(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "WEIGHTS", [(1.0, 0.3, 0.1)])
        patch.setattr(transfer, "NOISES", (0.1,))
        mean, std = transfer._posterior(new, seen, targets)

    def covariance(left: tuple[FloatArray, ...], right: tuple[FloatArray, ...]) -> FloatArray:
        return transfer.LEVEL + sum(w * a @ b.T for w, a, b in zip((1.0, 0.3, 0.1), left, right, strict=True))

    inverse = np.linalg.inv(covariance(seen, seen) + 0.1 * np.eye(6))
    unit, standard = targets.std(), (targets - targets.mean()) / targets.std()
    cross = covariance(new, seen)
    np.testing.assert_allclose(mean, targets.mean() + unit * cross @ inverse @ standard)
    # A scaled inverse chi-square prior makes the prediction a Student's t, whose variance this is.
    freedom = transfer.FREEDOM + 6
    scale = (transfer.FREEDOM + standard @ inverse @ standard) / freedom
    shape = np.diag(covariance(new, new) - cross @ inverse @ cross.T) + 0.1
    np.testing.assert_allclose(std, unit * np.sqrt([stats.t(freedom, scale=np.sqrt(scale * s)).var() for s in shape]))


def test_a_state_needs_no_table() -> None:
    features, all_ms = devices()
    model = Transfer(features, all_ms[:, :4])
    rows = model.rows(features, all_ms[:, :4])
    model.fit(rows[:10], all_ms[:10, 4])
    restored = Transfer.from_state(json.loads(json.dumps(model.state(), allow_nan=False)))
    for before, after in zip(model.predict(rows), restored.predict(rows), strict=True):
        np.testing.assert_array_equal(before, after)
    assert restored.state() == model.state()
    assert len(json.dumps(model.state())) < 50_000
    with pytest.raises(DataError, match="all 0 rows"):
        restored.choose(10, np.random.default_rng(0))


def test_it_follows_the_unit_and_one_known_device_is_enough() -> None:
    features, all_ms = devices(rows=40, count=2)
    model = Transfer(features, all_ms[:, :1])
    rows = model.rows(features, all_ms[:, :1])
    model.fit(rows[:10], all_ms[:10, 1])
    mean, std = model.predict(rows)
    model.fit(rows[:10], 1000.0 * all_ms[:10, 1])
    larger, wider = model.predict(rows)
    np.testing.assert_allclose(larger, 1000.0 * mean, rtol=1e-6)
    np.testing.assert_allclose(wider, 1000.0 * std, rtol=1e-6)


def test_what_cannot_be_used_is_refused() -> None:
    features, all_ms = devices(rows=20)
    with pytest.raises(DataError, match="at least one known device"):
        Transfer(features, all_ms[:, :0])
    for wrong in (0.0, np.nan):
        with pytest.raises(DataError, match=r"1 are not finite|1 hold a latency"):
            Transfer(features, np.where(np.arange(20)[:, None] == 3, wrong, all_ms))
    with pytest.raises(DataError, match="profile again"):
        Transfer(features, np.ones((20, 2)))
    model = Transfer(features, all_ms)
    rows = model.rows(features, all_ms)
    with pytest.raises(DataError, match="all 20 rows"):
        model.choose(21, np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="call fit first"):
        model.predict(rows)
    with pytest.raises(RuntimeError, match="call fit first"):
        model.state()
    for targets, message in ((np.array([1.0, -1.0]), "1 of 2"), (np.array([1.0, np.inf]), "finite"), (np.ones(3), r"\(3,\)")):
        with pytest.raises(DataError, match=message):
            model.fit(rows[:2], targets)


@pytest.mark.skipif(not (RECORDED / "nasbench201_devices.parquet").exists(), reason="needs ../shared")
def test_recorded_devices_from_ten_measurements() -> None:
    import pandas as pd

    table = pd.read_parquet(RECORDED / "nasbench201_devices.parquet").iloc[::5]
    names = [name for name in table if name.endswith("_ms") or "latency" in name]
    operations = table["arch_str"].str.findall(r"(\w+)~\d").tolist()
    options = sorted({name for row in operations for name in row})
    features = np.array([[float(name == option) for name in row for option in options] for row in operations])
    features = np.hstack([features, features.reshape(len(features), 6, len(options)).sum(axis=1)])
    found = []
    for new in ("help_1080ti_1_ms", "help_gold_6226_ms", "help_2080ti_256_ms"):
        known = table[[name for name in names if name != new]].to_numpy(float)
        model, measured = Transfer(features, known), table[new].to_numpy(float)
        rows, chosen = model.rows(features, known), model.choose(10, np.random.default_rng(0))
        model.fit(rows[chosen], measured[chosen])
        rest = np.setdiff1d(np.arange(len(table)), chosen)
        found.append(quality(measured[rest], *model.predict(rows[rest]))["spearman"])
    assert min(found) >= 0.95


BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "predictors.py"


def test_a_script_beside_the_benchmark_still_finds_the_package() -> None:
    program = f"import sys; sys.path.insert(0, {str(BENCHMARK.parent)!r}); import predictors; print(predictors.make_predictor)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "make_predictor" in done.stdout


def test_the_benchmark_reads_any_table(tmp_path: Path) -> None:
    import pandas as pd

    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: rng.integers(3, size=60).astype(float) for name in ("a1", "a2", "a3", "a4")})
    table["accuracy"] = table.sum(axis=1) + 0.1 * rng.standard_normal(60)
    table.loc[3, "accuracy"] = np.nan
    table.to_parquet(tmp_path / "t.parquet")
    command = [sys.executable, str(BENCHMARK), "--table", str(tmp_path / "t.parquet"), "--choices", "a1,a2,a3,a4"]
    command += ["--target", "accuracy", "--rows", "20", "--seeds", "2", "--predictors", "gaussian_process"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "r.json")], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "rows left out" in done.stdout
    found = json.loads((tmp_path / "r.json").read_text())["few_rows"]
    assert len(found) == 2  # one-hots, and with sums
    assert min(found[1]["kendall_tau"]) > 0.7
