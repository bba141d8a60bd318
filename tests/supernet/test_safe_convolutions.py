"""Convolutions on CPUs: the same function as before, and a backward pass that stays inside its memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas.supernet import SafeConvolutions

SCRIPT = Path(__file__).with_name("backward_passes.py")
CHECKING_ALLOCATOR = "libc_malloc_debug.so.0"  # glibc's checks of every allocation live in a library of their own since 2.34


@pytest.mark.parametrize("isa", ["", "AVX2"], ids=["every instruction", "AVX2 only"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_backward_pass_of_every_block_stays_inside_its_memory(precision: str, isa: str) -> None:
    environment = {**os.environ, "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "PYTHONPATH": os.pathsep.join(sys.path)}
    if Path("/lib/x86_64-linux-gnu", CHECKING_ALLOCATOR).exists():
        environment["LD_PRELOAD"] = CHECKING_ALLOCATOR
    if isa:
        environment["ONEDNN_MAX_CPU_ISA"] = isa
    child = subprocess.run(
        [sys.executable, str(SCRIPT), precision], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert child.returncode == 0, f"ended by {child.returncode}: {child.stderr[-500:]}"
    assert child.stdout.strip() == "survived"


@pytest.mark.parametrize(
    ("dimensions", "stride", "padding", "groups"),
    [(1, 2, 0, 1), (2, 2, 0, 1), (2, (2, 1), 0, 1), (2, 3, 1, 1), (2, (1, 2), (2, 1), 4), (2, 2, 0, 8), (3, 2, (0, 1, 2), 2)],
)
def test_subsampled_convolution_is_the_strided_one(
    dimensions: int, stride: int | tuple[int, ...], padding: int | tuple[int, ...], groups: int
) -> None:
    torch.manual_seed(0)
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    convolution = layer(8, 16, 1, stride, padding, groups=groups).double()
    x = torch.randn(2, 8, *(7, 9, 6)[:dimensions], dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        expected = convolution(x)
    with SafeConvolutions():
        found = convolution(x)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(found)
    found.backward(gradient)
    # The gradient of the input is the transposed convolution of the gradient: a second implementation of the backward pass.
    transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dimensions - 1]
    rest = [
        (size + 2 * margin - 1) % step
        for size, margin, step in zip(x.shape[2:], convolution.padding, convolution.stride, strict=True)
    ]
    with torch.no_grad():
        back = transposed(
            gradient, convolution.weight, None, convolution.stride, convolution.padding, tuple(rest), convolution.groups
        )
    torch.testing.assert_close(x.grad, back)


@pytest.mark.parametrize("size", [(1, 1), (9, 1), (1, 9)])
@pytest.mark.parametrize("bf16", [False, True])
def test_images_of_one_pixel_have_the_gradients_of_float32(size: tuple[int, int], bf16: bool) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 8, 3, 2, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(4, 3, *size)
    expected = torch.autograd.grad(convolution.double()(x.double()).sum(), list(convolution.parameters()))
    convolution.float()
    with SafeConvolutions(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        made = convolution(x)
    assert made.dtype == (torch.bfloat16 if bf16 else torch.float32)
    for own, right in zip(torch.autograd.grad(made.float().sum(), list(convolution.parameters())), expected, strict=True):
        torch.testing.assert_close(own.double(), right, rtol=1e-2 if bf16 else 1e-5, atol=1e-2 if bf16 else 1e-5)
