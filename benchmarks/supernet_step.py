"""What a supernet's training step costs beside the steps of the same networks on their own.

A sandwich of four subnets (forward, losses, distillation, backward, one optimizer step) is compared with the sum of the four
extracted subnets' own steps (forward, losses, backward, their own optimizers). Both run in turn, in blocks: on a CPU at one
thread, by the CPU time of the thread, so that other programs hardly matter; on CUDA by the clock, launched one by one and
captured as graphs.

    python benchmarks/supernet_step.py --json step.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.core import ArchConfig, InputSpec, Task, TrainingSpec
from nas.supernet import Alone, MultiTaskNet, SpaceDefinition, Supernet
from nas.tasks import task_kind
from nas.train.balancing import make_balancer
from nas.train.compute import Compute, choose_compute
from nas.train.graphs import CapturedPasses
from nas.train.sandwich import Sandwich
from search_spaces import make_space

TASKS = (Task("seg", "segmentation", 13), Task("depth", "depth", 1), Task("normals", "normals", 3))
Batch = tuple[Tensor, dict[str, Tensor]]


def random_batch(input: InputSpec, size: int, device: torch.device) -> Batch:
    """Return images and targets of noise; the cost does not depend on them."""
    g = torch.Generator().manual_seed(0)
    h, w = input.height, input.width
    targets = {
        "seg": torch.randint(0, 13, (size, h, w), generator=g),
        "depth": torch.rand(size, 1, h, w, generator=g) * 9 + 0.5,
        "normals": nn.functional.normalize(torch.randn(size, 3, h, w, generator=g), dim=1),
    }
    x = torch.rand(size, input.channels, h, w, generator=g)
    return x.to(device), {name: target.to(device) for name, target in targets.items()}


def adam(module: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that training uses."""
    return torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)


class SupernetStep:
    """Steps of a `Sandwich` as the trainer takes them.

    Args:
        definition: The space; that of one architecture gives a network alone.
        archs: Subnets of the step, the largest first.
        spec: Weights of the distillations.
        compute: Device and precision.
        batch: What every step trains on.
        captured: Replay CUDA graphs.
    """

    def __init__(
        self,
        definition: SpaceDefinition,
        archs: Sequence[ArchConfig],
        spec: TrainingSpec,
        compute: Compute,
        batch: Batch,
        captured: bool = False,
    ) -> None:
        supernet = Supernet(definition).to(compute.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.sandwich = Sandwich(supernet, make_balancer("equal", definition.tasks), spec, compute)
        self.archs, self.batch, self.optimizer = archs, batch, adam(supernet)
        self.sandwich.load(*batch)
        self.passes = CapturedPasses(self.sandwich) if captured else self.sandwich

    def __call__(self) -> None:
        """Take one step."""
        self.optimizer.zero_grad(set_to_none=isinstance(self.passes, Sandwich))
        self.sandwich.load(*self.batch)
        for arch in self.archs:
            self.passes.run(arch)
        self.optimizer.step()


class PlainStep:
    """Steps of an extracted network: a plain module, its losses and its own optimizer."""

    def __init__(self, net: MultiTaskNet, tasks: Sequence[Task], compute: Compute, batch: Batch) -> None:
        self.net = net.to(compute.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.tasks, self.compute, self.batch, self.optimizer = tasks, compute, batch, adam(net)

    def __call__(self) -> None:
        """Take one step."""
        x, targets = self.batch
        self.optimizer.zero_grad()
        with self.compute.autocast():
            outputs = self.net(x.contiguous(memory_format=torch.channels_last))
        total = torch.stack([task_kind(t.kind).loss(outputs[t.name], targets[t.name]) for t in self.tasks]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def timed(steps: Sequence[Callable[[], None]], repeats: int, device: torch.device) -> float:
    """Return milliseconds of `repeats` rounds of steps: CPU time of this thread, or on CUDA the clock's."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter_ns() if cuda else time.thread_time_ns()
    for _ in range(repeats):
        for step in steps:
            step()
    if cuda:
        torch.cuda.synchronize()
    return ((time.perf_counter_ns() if cuda else time.thread_time_ns()) - start) / 1e6 / repeats


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=1, help="steps per block")
    parser.add_argument("--json", type=Path, default=None, help="where to write every number")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    torch.set_num_threads(1)
    compute = choose_compute(TrainingSpec(device=given.device, precision="fp32" if given.device == "cpu" else "auto"))
    input = InputSpec(3, given.height, given.width, (0.5,) * 3, (0.25,) * 3)
    definition = make_space("slimmable", {}, TASKS, input)
    space, rng = definition.space, np.random.default_rng(0)
    archs = [space.largest(), space.smallest(), space.sample(rng), space.sample(rng)]
    batch = random_batch(input, given.batch, compute.device)

    distilled, plain = TrainingSpec(), TrainingSpec(distillation=0, encoder_distillation=0)
    supernet = Supernet(definition)
    own = [PlainStep(supernet.extract(arch), TASKS, compute, batch) for arch in archs]
    variants: dict[str, list[Callable[[], None]]] = {
        "four extracted subnets": list(own),
        "sandwich": [SupernetStep(definition, archs, distilled, compute, batch)],
        "sandwich, no distillation": [SupernetStep(definition, archs, plain, compute, batch)],
    }
    if compute.device.type == "cuda":
        alone = [Alone(definition, arch) for arch in archs]
        variants |= {
            "four extracted, captured": [SupernetStep(a, [a.space.largest()], plain, compute, batch, True) for a in alone],
            "sandwich, captured": [SupernetStep(definition, archs, distilled, compute, batch, True)],
            "sandwich, no distillation, captured": [SupernetStep(definition, archs, plain, compute, batch, True)],
        }
    for steps in variants.values():
        timed(steps, 3 if compute.device.type == "cuda" else 1, compute.device)
    blocks = [{name: timed(s, given.repeats, compute.device) for name, s in variants.items()} for _ in range(given.blocks)]

    print(f"{given.device}, {'bf16' if compute.bf16 else 'fp32'}, batch {given.batch}, {given.height}×{given.width}")
    print(f"{'':38s}{'ms':>9s}{'ratio':>8s}{'10 to 90 %':>16s}")
    rows = {}
    for name in variants:
        base = "four extracted, captured" if name.endswith("captured") else "four extracted subnets"
        ratios = np.array([block[name] / block[base] for block in blocks])
        low, middle, high = (float(q) for q in np.quantile(ratios, (0.1, 0.5, 0.9)))
        ms = float(np.median([block[name] for block in blocks]))
        rows[name] = {"ms": ms, "ratio": middle, "ratio_p10": low, "ratio_p90": high}
        print(f"{name:38s}{ms:>9.2f}{middle:>8.3f}{low:>8.3f}{high:>8.3f}")
    if given.json:
        facts = {"device": given.device, "bf16": compute.bf16, "batch": given.batch, "size": [given.height, given.width]}
        given.json.write_text(json.dumps({**facts, "torch": torch.__version__, "steps": rows, "blocks": blocks}, indent=1))


if __name__ == "__main__":
    main()
