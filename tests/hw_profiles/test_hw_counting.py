"""Counts against hand-derived numbers, which stand beside each network, and against PyTorch's own counter."""

from __future__ import annotations

import time
import warnings

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hw_profiles.counting import UncountedOperatorWarning, count_cost
from nas.core import InputSpec, NasError


def spec(channels: int, height: int, width: int) -> InputSpec:
    return InputSpec(channels, height, width, (0.0,) * channels, (1.0,) * channels)


def test_a_convolution() -> None:
    cost = count_cost(nn.Conv2d(3, 8, 3, stride=2, padding=1), spec(3, 16, 12))
    assert cost["macs"] == 8 * 8 * 6 * 3 * 9
    assert cost["params"] == 8 * 3 * 9 + 8
    assert cost["peak_bytes"] == 4 * (3 * 16 * 12 + 8 * 8 * 6)


def test_a_grouped_and_a_transposed_convolution() -> None:
    assert count_cost(nn.Conv2d(8, 8, 3, padding=1, groups=8), spec(8, 5, 5))["macs"] == 8 * 25 * 9
    assert count_cost(nn.ConvTranspose2d(4, 6, 2, stride=2), spec(4, 5, 5))["macs"] == 25 * 4 * 6 * 4


def test_a_linear_layer() -> None:
    cost = count_cost(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), spec(3, 2, 2))
    assert cost == {"macs": 60.0, "params": 65.0, "peak_bytes": 4.0 * (12 + 5)}


class Tokens(nn.Module):
    """Pixels as tokens through one multi-head attention, in one of PyTorch's spellings."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.heads = heads
        self.fused = fused

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (batch, n, width)
        batch, n, width = tokens.shape
        q, k, v = self.qkv(tokens).view(batch, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, n, width))


@pytest.mark.parametrize("fused", [True, False])
def test_attention(fused: bool) -> None:
    n, width = 4 * 6, 16
    cost = count_cost(Tokens(width, 2, fused), spec(width, 4, 6))
    projections = n * width * 3 * width + n * width * width
    products = 2 * n * n * width  # scores and mixing, over all heads
    assert cost["macs"] == projections + products


class TorchAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(2).transpose(1, 2))


def test_a_transformer_layer_whose_fast_path_would_hide_its_products() -> None:
    n, width = 24, 16
    macs = count_cost(TorchAttention().eval(), spec(16, 4, 6))["macs"]
    assert macs == 4 * n * width * width + 2 * n * n * width + 2 * n * width * 32


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


class SmallResNet(nn.Module):
    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.head = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"class": self.head(self.blocks(self.stem(x)).mean((2, 3)))}


def test_a_small_resnet() -> None:
    cost = count_cost(SmallResNet(8, 2), spec(3, 16, 16))
    pixels = 256
    assert cost["macs"] == pixels * 3 * 8 * 9 + 4 * pixels * 8 * 8 * 9 + 80
    params = 3 * 8 * 9 + 4 * 8 * 8 * 9 + 4 * 2 * 8 + 90
    assert cost["params"] == params
    # Most is alive in the second convolution of a block: the skip, its input and its output. The normalisation, the
    # rectifier and the sum write over what they read.
    assert cost["peak_bytes"] == 4 * 3 * 8 * pixels


def test_it_agrees_with_the_counter_of_pytorch() -> None:
    network = SmallResNet(8, 2)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, 16, 16))
    assert count_cost(network, spec(3, 16, 16))["macs"] == counter.get_total_flops() / 2


class Skip(nn.Module):
    """A wide first value that is read again at the end."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 1, 1, bias=False)
        self.up = nn.Conv2d(1, 4, 1, bias=False)
        self.keep = keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up = self.up(self.down(x))
        return torch.cat([up, x], 1) if self.keep else up


def test_a_value_lives_until_it_is_read_last() -> None:
    pixels = 9
    assert count_cost(Skip(False), spec(4, 3, 3))["peak_bytes"] == 4 * pixels * (4 + 1)
    assert count_cost(Skip(True), spec(4, 3, 3))["peak_bytes"] == 4 * pixels * (4 + 4 + 8)


def test_the_network_is_not_changed() -> None:
    network = SmallResNet(8, 1).train()
    network.blocks[0].norm1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    count_cost(network, spec(3, 16, 16))
    assert modes == [module.training for module in network.modules()]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert {value.device.type for value in network.parameters()} == {"cpu"}
    assert all(value.requires_grad for value in network.parameters())


def test_a_shared_weight_and_a_buffer_that_is_not_saved_count_once_and_not_at_all() -> None:
    layer = nn.Linear(12, 12)
    layer.register_buffer("scratch", torch.zeros(100), persistent=False)
    cost = count_cost(nn.Sequential(nn.Flatten(), layer, layer), spec(3, 2, 2))
    assert cost["macs"] == 2 * 144
    assert cost["params"] == 156


def test_a_network_on_the_meta_device_and_in_half_precision_costs_the_same() -> None:
    network = SmallResNet(8, 1)
    expected = count_cost(network, spec(3, 16, 16))
    assert count_cost(network.bfloat16(), spec(3, 16, 16)) == expected
    assert count_cost(network.to("meta"), spec(3, 16, 16)) == expected


class Vector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mv(x.flatten(1), self.weight)


def test_an_operator_without_a_rule_is_reported() -> None:
    with pytest.warns(UncountedOperatorWarning, match=r"aten\.mv"):
        count_cost(Vector(), spec(3, 2, 2))


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft2(x).abs()


def test_a_transform_nobody_counts_is_reported() -> None:
    with pytest.warns(UncountedOperatorWarning, match="fft"):
        count_cost(Spectrum(), spec(3, 4, 4))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x.flatten(2).transpose(1, 2))[0]


def test_a_recurrent_layer_is_counted_step_by_step() -> None:
    assert count_cost(Recurrent(), spec(4, 2, 3))["macs"] == 6 * 4 * 8 * (4 + 8)


class Common(nn.Module):
    """What networks are made of besides products."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = nn.functional
        y = f.gelu(f.max_pool2d(x, 2)) + f.silu(f.avg_pool2d(x, 2))
        y = f.interpolate(f.pad(y, (1, 1, 1, 1)), size=x.shape[-2:], mode="bilinear", align_corners=False)
        y = f.normalize(f.group_norm(f.hardswish(y), 2), dim=1) * torch.sigmoid(f.adaptive_avg_pool2d(x, 1))
        y = f.pixel_unshuffle(f.dropout(torch.cat([y, f.interpolate(y, scale_factor=1.0)], 1).clamp(0, 6)), 2)
        return f.softmax(f.layer_norm(y, y.shape[1:]), 1).argmax(1)


def test_common_operators_are_free_and_not_reported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_cost(Common(), spec(4, 8, 8))["macs"] == 0


class Peeks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_network_that_looks_at_values_is_an_error_that_says_so() -> None:
    with pytest.raises(NasError, match="may look at no value"):
        count_cost(Peeks(), spec(3, 4, 4))


def test_forty_convolutions_take_little_time() -> None:
    network = SmallResNet(32, 20)
    count_cost(network, spec(3, 96, 128))
    start = time.thread_time()
    for _ in range(3):
        count_cost(network, spec(3, 96, 128))
    assert (time.thread_time() - start) / 3 < 0.12  # 0.04 s on a quiet machine
