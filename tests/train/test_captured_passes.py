"""Passes replayed from CUDA graphs give the gradients of the passes themselves. Needs a CUDA device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas.core import InputSpec, Task, TrainingSpec
from nas.supernet import Supernet
from nas.train.balancing import make_balancer
from nas.train.compute import Compute
from nas.train.graphs import CapturedPasses
from nas.train.sandwich import Sandwich
from search_spaces import make_space

TASKS = (Task("seg", "segmentation", 5), Task("depth", "depth", 1), Task("normals", "normals", 3))


def batch(seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    g = torch.Generator("cuda").manual_seed(seed)
    return torch.rand(4, 3, 32, 48, device="cuda", generator=g), {
        "seg": torch.randint(0, 5, (4, 32, 48), device="cuda", generator=g),
        "depth": torch.rand(4, 1, 32, 48, device="cuda", generator=g) + 1,
        "normals": torch.nn.functional.normalize(torch.randn(4, 3, 32, 48, device="cuda", generator=g), dim=1),
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bf16", [False, True])
def test_replayed_gradients_equal_eager_ones(bf16: bool) -> None:
    definition = make_space("slimmable", {}, TASKS, InputSpec(3, 32, 48, (0.5,) * 3, (0.25,) * 3))
    torch.manual_seed(0)
    supernet = Supernet(definition).to("cuda", memory_format=torch.channels_last).train()
    sandwich = Sandwich(
        supernet, make_balancer("equal", TASKS).cuda(), TrainingSpec(), Compute(torch.device("cuda"), bf16=bf16)
    )
    space, rng = definition.space, np.random.default_rng(0)
    archs = [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(4))]

    def gradients() -> torch.Tensor:
        return torch.cat([p.grad.flatten() for p in supernet.parameters() if p.grad is not None]).double()

    def eager(seed: int) -> torch.Tensor:
        supernet.zero_grad(set_to_none=True)
        sandwich.load(*batch(seed))
        for arch in archs:
            sandwich.run(arch)
        return gradients()

    expected = [eager(seed) for seed in range(3)]
    again = [eager(seed) for seed in range(3)]  # sums by atomics differ a little from run to run
    noise = max(float((a - b).norm() / a.norm()) for a, b in zip(expected, again, strict=True))
    captured = CapturedPasses(sandwich)
    for seed in (0, 0, 1, 2):  # the first round captures, the others replay
        supernet.zero_grad(set_to_none=False)
        sandwich.load(*batch(seed))
        for arch in archs:
            captured.run(arch)
        gap = float((gradients() - expected[seed]).norm() / expected[seed].norm())
        assert gap <= max(3 * noise, 1e-6 if not bf16 else 1e-4), f"seed {seed}: {gap:.1e} apart, {noise:.1e} run to run"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_extracted_subnet_is_where_the_supernet_is() -> None:
    definition = make_space("slimmable", {}, TASKS, InputSpec(3, 32, 48, (0.5,) * 3, (0.25,) * 3))
    supernet = Supernet(definition).to("cuda").eval()
    arch, (x, _) = definition.space.smallest(), batch(0)
    with torch.no_grad():
        inherited, extracted = supernet(x, arch), supernet.extract(arch)(x)
    for name, expected in inherited.items():
        torch.testing.assert_close(extracted[name], expected, rtol=1e-4, atol=1e-5)
