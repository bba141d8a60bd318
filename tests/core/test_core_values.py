"""Values: frozen, hashable, known by stable keys."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_spaces import quick

import nas.core
from nas.core import ArchConfig, Fingerprint, Objective, Task, nearest

# Pinned: stores, caches and exported files are named by these keys.
KNOWN = {"encoder.0.width": 0.5, "encoder.0.depth": 2, "kind": "conv"}
KNOWN_JSON = '{"encoder.0.depth":2,"encoder.0.width":0.5,"kind":"conv"}'
KNOWN_KEY = "d159e9798a489d8c"


def test_the_key_of_a_known_architecture() -> None:
    assert ArchConfig(KNOWN).to_json() == KNOWN_JSON
    assert ArchConfig(KNOWN).key == KNOWN_KEY


def test_the_key_of_a_known_fingerprint() -> None:
    assert Fingerprint("Some CPU", 2, "1.23.0", "CPUExecutionProvider", 1).key == "9bc08204746eab4d"


picks = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    max_size=5,
)


@quick
@given(picks=picks, order=st.randoms(use_true_random=False))
def test_the_key_is_that_of_the_picks_in_any_order(picks: dict[str, int | float | str], order: object) -> None:
    items = list(picks.items())
    order.shuffle(items)  # type: ignore[attr-defined]
    arch, shuffled = ArchConfig(picks), ArchConfig(dict(items))
    assert (shuffled.key, hash(shuffled), shuffled) == (arch.key, hash(arch), arch)
    assert ArchConfig.from_json(arch.to_json()) == arch
    assert pickle.loads(pickle.dumps(arch)) == arch
    assert dict(arch) == picks


def test_other_picks_are_another_architecture() -> None:
    assert ArchConfig({"a": 1}) != ArchConfig({"a": 2})
    assert ArchConfig({"a": 1}) != ArchConfig({"a": "1"})
    assert ArchConfig({"a": 1}) != {"a": 1}


def test_an_architecture_is_frozen() -> None:
    arch = ArchConfig(KNOWN)
    with pytest.raises(AttributeError, match="frozen: key cannot be set"):
        arch.key = "other"
    with pytest.raises(TypeError):
        arch._picks["kind"] = "none"  # type: ignore[index]
    source = {"a": 1}
    copied = ArchConfig(source)
    source["a"] = 2
    assert copied["a"] == 1


@pytest.mark.parametrize("name", [n for n in nas.core.__all__ if dataclasses.is_dataclass(getattr(nas.core, n))])
def test_every_value_is_frozen_and_slotted(name: str) -> None:
    kind = getattr(nas.core, name)
    assert kind.__dataclass_params__.frozen
    assert "__slots__" in vars(kind)


def test_dense_tasks_are_those_with_a_prediction_per_pixel() -> None:
    dense = {kind: Task("t", kind, 3).dense for kind in ("classification", "segmentation", "depth", "normals")}
    assert dense == {"classification": False, "segmentation": True, "depth": True, "normals": True}


def test_nearest_offers_what_was_meant_and_lists_what_is_allowed() -> None:
    assert nearest("dept", ["depth", "normals", "seg"]) == "did you mean 'depth'? Allowed: depth, normals, seg"
    assert nearest("xyz", ["depth"]) == "Allowed: depth"
    assert nearest(3, [1, 2, 30]).endswith("Allowed: 1, 2, 30")
    assert nearest("a", []) == "nothing is allowed here"
    assert nearest("zz", range(100, 125)).endswith("119 and 5 more")


def test_every_error_of_a_user_is_a_user_error() -> None:
    users = ("JobFileError", "ArchError", "ObjectiveError", "DataError", "DeviceError", "StoreError", "NotFoundError")
    for name in [n for n in nas.core.__all__ if n.endswith("Error")]:
        kind = getattr(nas.core, name)
        assert issubclass(kind, nas.core.NasError)
        assert issubclass(kind, nas.core.UserError) == (name in users or name == "UserError")


def test_a_job_file_error_names_its_line() -> None:
    error = nas.core.JobFileError("epochs is at least 1: got 0", line=7)
    assert (str(error), error.line) == ("line 7: epochs is at least 1: got 0", 7)
    assert str(nas.core.JobFileError("no such key")) == "no such key"


def test_an_objective_is_a_value() -> None:
    assert Objective("macs") == Objective("macs", "min", None)
    assert len({Objective("macs"), Objective("macs", "min")}) == 1
