"""Batch-norm statistics estimated anew, against sums worked out layer by layer."""

from __future__ import annotations

import pytest
import torch
from space_cases import DEFINITIONS, pixels, some_archs
from torch import Tensor, nn

from nas.supernet import SpaceDefinition, Supernet, recalibrate

every_definition = pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)


def norms(module: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.BatchNorm2d)}


@every_definition
def test_statistics_are_the_mean_over_the_images(definition: SpaceDefinition) -> None:
    torch.manual_seed(0)
    supernet = Supernet(definition).train()
    for arch in some_archs(definition, 4):
        supernet(pixels(definition, 4, seed=9), arch)
    module = supernet.extract(some_archs(definition, 5)[-1])
    weights = {name: p.clone() for name, p in module.named_parameters()}
    sizes = (5, 4, 2)
    batches = [pixels(definition, size, seed) for seed, size in enumerate(sizes)]
    weights_of = torch.tensor(sizes).double()[:, None] / sum(sizes)
    recalibrate(module, batches)

    # A layer's input depends on no running statistic in a training pass: each batch is normalised by itself.
    seen: dict[str, list[Tensor]] = {name: [] for name in norms(module)}
    handles = [
        layer.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0].detach().double().clone()))
        for name, layer in norms(module).items()
    ]
    kept = {name: (layer.running_mean.clone(), layer.running_var.clone()) for name, layer in norms(module).items()}
    module.train()
    with torch.no_grad():
        for x in batches:
            module(x)
    for handle in handles:
        handle.remove()
    for name, (mean, variance) in kept.items():
        rows = [x.transpose(0, 1).flatten(1) for x in seen[name]]  # (channels, values)
        expected = (torch.stack([(row.sum(1) / row.shape[1]) for row in rows]) * weights_of).sum(0)
        torch.testing.assert_close(mean.double(), expected, rtol=1e-4, atol=1e-5)
        centred = [row - row.mean(1, keepdim=True) for row in rows]
        unbiased = (torch.stack([(row**2).sum(1) / (row.shape[1] - 1) for row in centred]) * weights_of).sum(0)
        torch.testing.assert_close(variance.double(), unbiased, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(p, weights[name]) for name, p in module.named_parameters())


def some_module() -> nn.Module:
    torch.manual_seed(1)
    definition = DEFINITIONS["slimmable-0"]
    return definition.build(definition.space.smallest())


def test_recalibration_leaves_momenta_as_they_were_and_the_module_in_eval_mode() -> None:
    module = some_module().train()
    layers = list(norms(module).values())
    layers[0].momentum = 0.03
    recalibrate(module, [pixels(DEFINITIONS["slimmable-0"])])
    assert [layer.momentum for layer in layers] == [0.03] + [0.1] * (len(layers) - 1)
    assert not any(part.training for part in module.modules())
    assert all(p.grad is None for p in module.parameters())


def test_a_failing_batch_leaves_momenta_as_they_were() -> None:
    module = some_module().train()
    with pytest.raises(RuntimeError, match="size of tensor"):
        recalibrate(module, [pixels(DEFINITIONS["slimmable-0"]), torch.zeros(2, 7, 30, 42)])
    assert {layer.momentum for layer in norms(module).values()} == {0.1}


def test_recalibrating_again_gives_the_same() -> None:
    module, batches = some_module(), [pixels(DEFINITIONS["slimmable-0"], 3, seed) for seed in range(2)]
    recalibrate(module, batches)
    first = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    recalibrate(module, batches)
    assert all(torch.equal(tensor, first[name]) for name, tensor in module.state_dict().items())


def test_nothing_to_calibrate_on_changes_nothing() -> None:
    module = some_module().train()
    module(pixels(DEFINITIONS["slimmable-0"]))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    recalibrate(module, [])
    assert not module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
