"""Where and in which precision a network is trained and evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nas.core import DeviceError, TrainingSpec


@dataclass(frozen=True, slots=True)
class Compute:
    """A torch device and the type that matrix products are computed in.

    Attributes:
        device: Where tensors live.
        bf16: Whether training runs under bfloat16 autocast. Evaluation is float32 always: that is what is exported.
    """

    device: torch.device
    bf16: bool

    def autocast(self) -> torch.autocast:
        """Return the context of a training pass. Casts are not cached, so that passes can be captured one by one."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False)


def choose_compute(spec: TrainingSpec) -> Compute:
    """Return what `spec` asks for; ``auto`` takes CUDA where there is one, and bf16 where the processor has it.

    On a processor without bf16 instructions autocast is ten times slower than float32, so ``auto`` looks first.

    Raises:
        DeviceError: The job asks for CUDA and there is none.
    """
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("training.device is cuda, and torch sees no CUDA device here; write auto or cpu")
    device = torch.device("cuda" if spec.device != "cpu" and torch.cuda.is_available() else "cpu")
    if spec.precision != "auto":
        return Compute(device, spec.precision == "bf16")
    if device.type == "cuda":
        return Compute(device, torch.cuda.is_bf16_supported())
    has = torch.cpu.get_capabilities()
    return Compute(device, bool(has.get("avx512_bf16") or has.get("amx_bf16")))
