"""A space with a precision for each block is a space like any other; what it adds, and what it takes as allowed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import test_space_contract as contract
from space_cases import DEFINITIONS
from torch import nn

from nas.core import PRECISIONS, ArchConfig, ArchError, Precision, is_fp32, policy_of, with_policy, without_policy
from nas.supernet import block_of, blocks
from search_spaces.precision import WithPrecision

PLAIN = DEFINITIONS["slimmable-1"]  # segmentation and a classification: convolutions, and a linear layer
BLOCKS = ("stem", "stages.0", "stages.1", "decoders.seg", "decoders.room")
PROMISES = [
    promise
    for name, promise in vars(contract).items()
    if name.startswith("test_") and "definition" in inspect.signature(promise).parameters
]


def test_the_whole_contract_is_checked() -> None:
    assert len(PROMISES) >= 9


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_what_every_space_promises(promise: Callable[..., None], tmp_path: Path) -> None:
    places = {"tmp_path": tmp_path} if "tmp_path" in inspect.signature(promise).parameters else {}
    promise(definition=WithPrecision(PLAIN), **places)


def test_each_block_picks_what_its_layers_can_compute_in() -> None:
    space = WithPrecision(PLAIN).space
    assert space.choices[: len(PLAIN.space.choices)] == PLAIN.space.choices
    assert {choice.name: choice.options for choice in space.choices[len(PLAIN.space.choices) :]} == {
        **{f"precision.{name}": ("int8", "fp32") for name in BLOCKS[:-1]},
        "precision.decoders.room": PRECISIONS,
    }
    assert space.count() == PLAIN.space.count() * 2**4 * 4


def test_an_architecture_is_a_network_and_a_policy() -> None:
    definition = WithPrecision(PLAIN)
    rng = np.random.default_rng(0)
    for _ in range(20):
        arch = definition.space.sample(rng)
        network, policy = without_policy(arch), policy_of(arch)
        assert PLAIN.space.arch(network) == network
        assert tuple(policy) == tuple(sorted(BLOCKS))
        assert with_policy(network, policy) == arch
        assert with_policy(arch, {}) == network
        other = dict.fromkeys(policy, "fp32")
        assert with_policy(arch, other)["precision.stem"] == "fp32"  # type: ignore[arg-type]
        assert definition.macs([arch])[0] == PLAIN.macs([network])[0]
        assert is_fp32(policy) == (set(policy.values()) == {"fp32"})
    assert is_fp32({})
    assert policy_of(PLAIN.space.largest()) == {}
    assert not is_fp32(policy_of(definition.space.smallest()))
    assert is_fp32(policy_of(definition.space.largest()))


def test_only_what_is_allowed_can_be_picked() -> None:
    allowed: dict[str, tuple[Precision, ...]] = {
        "stem": ("fp32",),
        "stages.0": ("fp32", "int8"),
        "decoders.room": ("fp32", "int4"),
    }
    space = WithPrecision(PLAIN, allowed).space
    assert space["precision.stem"].options == ("fp32",)
    assert space["precision.stages.0"].options == ("int8", "fp32")
    assert space["precision.decoders.room"].options == ("int4", "fp32")
    assert space["precision.stages.1"].options == ("int8", "fp32")
    nothing = WithPrecision(PLAIN, dict.fromkeys(BLOCKS, ("fp32",)))
    assert nothing.space.count() == PLAIN.space.count()


def test_errors_name_the_nearest_valid_value() -> None:
    with pytest.raises(ArchError, match=r"'stage\.0' is no block of space 'slimmable'; did you mean 'stages\.0'"):
        WithPrecision(PLAIN, {"stage.0": ("fp32",)})
    with pytest.raises(ArchError, match="block 'stem' cannot compute in 'int8-dynamic'; did you mean 'int8'"):
        WithPrecision(PLAIN, {"stem": ("fp32", "int8-dynamic")})
    with pytest.raises(ArchError, match="at least one precision: 'stem' has none"):
        WithPrecision(PLAIN, {"stem": ()})
    with pytest.raises(ArchError, match=r"precision\.stem = 'int3' is no precision; did you mean 'int"):
        policy_of(ArchConfig({"precision.stem": "int3"}))


def test_blocks_are_the_parts_with_layers_and_the_same_in_every_subnet() -> None:
    for definition in DEFINITIONS.values():
        names = blocks(definition.super_module())
        rng = np.random.default_rng(1)
        assert all(blocks(definition.build(definition.space.sample(rng))) == names for _ in range(5))

    net = nn.Module()
    net.first = nn.Conv2d(3, 8, 1)
    net.norm = nn.BatchNorm2d(8)
    net.many = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.ReLU(), nn.MultiheadAttention(8, 2)])
    net.heads = nn.ModuleDict({"a": nn.Sequential(nn.Conv2d(8, 8, 1), nn.Linear(8, 2))})
    assert {block.name: set(block.kinds) for block in blocks(net)} == {
        "first": {"conv"},
        "many.0": {"linear"},
        "many.2": {"linear"},
        "heads.a": {"conv", "linear"},
    }
    assert block_of("many.2.out_proj", ("many.2", "many")) == "many.2"
    assert block_of("many.20.out_proj", ("many.2",)) is None
