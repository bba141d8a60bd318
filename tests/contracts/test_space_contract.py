"""What `nas.supernet.SpaceDefinition` promises, for every space of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from space_cases import CASES, DEFINITIONS, OPTIONS, make, pixels, quick, some_archs
from torch.utils.flop_counter import FlopCounterMode

from hw_profiles.counting import count_cost
from nas.export import open_session, to_onnx
from nas.supernet import Alone, SpaceDefinition, Supernet
from search_spaces import SPACES

every_definition = pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)
drawn = st.tuples(st.sampled_from(sorted(DEFINITIONS)), st.integers(0, 2**32 - 1))


def test_every_space_of_the_table_is_checked() -> None:
    assert set(OPTIONS) == set(SPACES)


@every_definition
def test_the_super_module_is_the_largest_network(definition: SpaceDefinition) -> None:
    shared, largest = definition.super_module().state_dict(), definition.build(definition.space.largest()).state_dict()
    assert {name: t.shape for name, t in shared.items()} == {name: t.shape for name, t in largest.items()}


@every_definition
def test_the_teacher_is_a_network_whose_features_are_as_wide_as_any(definition: SpaceDefinition) -> None:
    assert definition.space.arch(definition.teacher) == definition.teacher
    x = pixels(definition)
    with torch.no_grad():
        features = [definition.build(arch).eval().encode(x) for arch in (definition.teacher, *some_archs(definition, 6))]
    for taught in features[1:]:
        assert all(own.shape[1] >= other.shape[1] for own, other in zip(features[0], taught, strict=True))


@every_definition
def test_views_cover_every_tensor_of_every_network(definition: SpaceDefinition) -> None:
    shared = definition.super_module().state_dict()
    for arch in some_archs(definition, 6):
        own = definition.build(arch).state_dict()
        views = definition.views(arch, {name: tensor.shape for name, tensor in own.items()})
        assert set(views) == set(own)
        for name, view in views.items():
            part = view.of(shared[view.name])
            assert part.shape == own[name].shape
            assert part.dtype == own[name].dtype
            if part.numel():
                assert part.untyped_storage().data_ptr() == shared[view.name].untyped_storage().data_ptr()


@every_definition
def test_the_smallest_network_costs_least_and_the_largest_most(definition: SpaceDefinition) -> None:
    macs = definition.macs(some_archs(definition, 40))
    assert macs[0] == macs.min()
    assert macs[1] == macs.max()
    assert macs.shape == (40,)
    assert definition.macs([]).shape == (0,)


@quick
@given(case=drawn)
def test_macs_are_those_that_torch_and_the_profiler_count(case: tuple[str, int]) -> None:
    definition = DEFINITIONS[case[0]]
    arch = definition.space.sample(np.random.default_rng(case[1]))
    with torch.device("meta"):
        module = definition.build(arch).eval()
    spec = definition.input
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, spec.channels, spec.height, spec.width, device="meta"))
    macs = float(definition.macs([arch])[0])
    assert macs == counter.get_total_flops() / 2  # torch counts a multiply-accumulate as two
    assert macs == count_cost(module, spec)["macs"]


@every_definition
def test_predictions_have_the_size_of_the_input(definition: SpaceDefinition) -> None:
    spec, x = definition.input, pixels(definition, 3)
    for arch in some_archs(definition, 5):
        with torch.no_grad():
            outputs = definition.build(arch).eval()(x)
        assert list(outputs) == [task.name for task in definition.tasks]
        for task in definition.tasks:
            expected = (3, task.outputs, spec.height, spec.width) if task.dense else (3, task.outputs)
            assert outputs[task.name].shape == expected


@every_definition
def test_heads_are_the_last_layers(definition: SpaceDefinition) -> None:
    net = definition.build(definition.space.smallest()).eval()
    heads = net.heads()
    assert list(heads) == [task.name for task in definition.tasks]
    for index, head in enumerate(heads.values()):
        assert head.bias is not None
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.constant_(head.bias, index + 0.5)
    with torch.no_grad():
        outputs = net(pixels(definition))
    for index, task in enumerate(definition.tasks):
        torch.testing.assert_close(outputs[task.name], torch.full_like(outputs[task.name], index + 0.5))


@every_definition
def test_inherited_and_extracted_networks_predict_the_same(definition: SpaceDefinition) -> None:
    torch.manual_seed(0)
    supernet, x = Supernet(definition).train(), pixels(definition, 4)
    for arch in some_archs(definition, 3, seed=5):  # statistics that are no longer those of the start
        supernet(x, arch)
    supernet.eval()
    for arch in some_archs(definition, 6):
        extracted = supernet.extract(arch)
        assert not extracted.training
        with torch.no_grad():
            inherited, alone = supernet(x, arch), extracted(x)
        for name, prediction in inherited.items():
            assert torch.equal(prediction, alone[name])


@every_definition
def test_a_training_pass_predicts_and_counts_as_the_network_alone(definition: SpaceDefinition) -> None:
    torch.manual_seed(1)
    supernet, x = Supernet(definition).train(), pixels(definition, 4)
    arch = definition.space.smallest()
    extracted = supernet.extract(arch)
    assert extracted.training
    before = {name: tensor.clone() for name, tensor in supernet.shared.state_dict().items()}
    inherited, alone = supernet(x, arch), extracted(x)
    for name, prediction in inherited.items():
        assert torch.equal(prediction, alone[name])
    # Running statistics moved inside the slices as in the network alone, and nowhere else.
    own = extracted.state_dict()
    after = supernet.shared.state_dict()
    for name, view in definition.views(arch, {name: tensor.shape for name, tensor in own.items()}).items():
        assert torch.equal(view.of(after[view.name]), own[name])
        rest = torch.ones_like(after[view.name], dtype=torch.bool)
        view.of(rest).fill_(False)
        assert torch.equal(after[view.name][rest], before[view.name][rest])
    moved = [name for name in own if "running_mean" in name and not torch.equal(after[name], before[name])]
    assert moved


@every_definition
def test_gradients_stay_inside_the_slices(definition: SpaceDefinition) -> None:
    torch.manual_seed(2)
    supernet, x = Supernet(definition).train(), pixels(definition, 4)
    for arch in some_archs(definition, 4):
        supernet.zero_grad(set_to_none=True)
        extracted = supernet.extract(arch)
        for net in (lambda: supernet(x, arch), lambda: extracted(x)):  # noqa: B023  (used at once)
            sum(output.square().mean() for output in net().values()).backward()  # type: ignore[union-attr]
        own = dict(extracted.named_parameters())
        views = definition.views(arch, {name: tensor.shape for name, tensor in own.items()})
        inside = {name: torch.zeros_like(tensor, dtype=torch.bool) for name, tensor in supernet.shared.named_parameters()}
        gradients = {name: p.grad for name, p in supernet.shared.named_parameters()}
        for name, view in views.items():
            view.of(inside[view.name]).fill_(True)
            found = gradients[view.name]
            assert found is not None
            torch.testing.assert_close(view.of(found), own[name].grad, rtol=1e-4, atol=1e-6)
            assert view.of(found).any()
        for name, gradient in gradients.items():
            assert gradient is None or not gradient[~inside[name]].any()


@every_definition
def test_an_extracted_network_shares_nothing(definition: SpaceDefinition) -> None:
    torch.manual_seed(3)
    supernet, arch = Supernet(definition).eval(), definition.space.largest()
    extracted = supernet.extract(arch)
    before = {name: tensor.clone() for name, tensor in extracted.state_dict().items()}
    with torch.no_grad():
        for tensor in supernet.shared.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in extracted.state_dict().items())
    owned = {tensor.untyped_storage().data_ptr() for tensor in supernet.shared.state_dict().values()}
    assert not owned.intersection(tensor.untyped_storage().data_ptr() for tensor in extracted.state_dict().values())


@pytest.mark.parametrize(("name", "case"), CASES)
def test_one_seed_gives_one_supernet(name: str, case: int) -> None:
    states = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        states.append(Supernet(make(name, case)).shared.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


@every_definition
def test_a_network_alone_is_the_network_of_the_space(definition: SpaceDefinition) -> None:
    arch = some_archs(definition, 3)[-1]
    alone = Alone(definition, arch)
    assert alone.space.count() == 1
    assert alone.space.largest() == alone.space.smallest() == arch
    torch.manual_seed(0)
    plain = definition.build(arch).eval()
    torch.manual_seed(0)
    supernet = Supernet(alone).eval()
    assert all(torch.equal(tensor, supernet.shared.state_dict()[name]) for name, tensor in plain.state_dict().items())
    with torch.no_grad():
        x = pixels(definition)
        assert all(torch.equal(a, b) for a, b in zip(plain(x).values(), supernet(x, arch).values(), strict=True))
    assert alone.macs([arch, arch]).tolist() == [definition.macs([arch])[0]] * 2


@every_definition
def test_onnx_runtime_computes_the_same(definition: SpaceDefinition, tmp_path: Path) -> None:
    torch.manual_seed(4)
    module = Supernet(definition).eval().extract(some_archs(definition, 3)[-1])
    path = to_onnx(module, definition.input, tmp_path / "net.onnx", definition.tasks)
    x = pixels(definition, 1)
    found = open_session(path, batch=1).run(None, {"image": x.numpy()})
    with torch.no_grad():
        expected = module(x)
    for task, values in zip(definition.tasks, found, strict=True):
        np.testing.assert_allclose(values, expected[task.name].numpy(), atol=1e-4)
