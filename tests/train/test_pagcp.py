"""Channel pruning: the published factors, groups of channels, masks against smaller networks, and cuts that are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from tiny_training import tiny_data
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas.core import InputSpec, NasError, UserError
from nas.supernet import Features, MultiTaskNet, Outputs
from nas.train.pruning import Bound, Pruning, channel_groups, narrowed, pagcp, removed
from nas.train.pruning.channels import Masks
from nas.train.pruning.pagcp import least_salient
from search_spaces import make_space

DATA = tiny_data()


@pytest.fixture(scope="module")
def net() -> MultiTaskNet:
    """A network with shortcuts, dense decoders and one of whole images, its batch norms as after training."""
    options = {"channels": (8, 16), "decoder_channels": 8, "widths": (1.0,), "depths": (2,)}
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    made = make_space("slimmable", options, DATA.tasks, DATA.input).super_module().eval()
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                    assert tensor is not None
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return made


def outputs(net: nn.Module) -> Mapping[str, Tensor]:
    with torch.no_grad():
        found: Mapping[str, Tensor] = net(DATA.val.inputs.float() / 255)
    return found


def macs(net: nn.Module, channels: int = 3, side: int = 16) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, channels, side, side))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("rate", "product", "groups", "factor"),
    [
        (0.05, 5, 10, 1.266155),
        (0.05, 5, 20, 1.051589),
        (0.05, 5, 60, 0.976971),
        (0.05, 5, 100, 0.970946),
        (0.06, 6, 10, 1.253032),
        (0.06, 6, 20, 1.044861),
        (0.06, 6, 60, 0.973794),
        (0.06, 6, 100, 0.968353),
    ],
)
def test_the_factors_of_the_published_code(rate: float, product: float, groups: int, factor: float) -> None:
    assert Bound(rate, product).decay(groups) == pytest.approx(factor, abs=1e-5)


@pytest.mark.parametrize("groups", [2, 3, 30, 300])
def test_thresholds_shrink_and_multiply_to_the_growth_allowed(groups: int) -> None:
    bound = Bound.of(0.3, groups)
    factor = bound.decay(groups)
    assert 0 < factor < 1
    assert math.prod(1 + bound.rate * factor**i for i in range(groups)) == pytest.approx(1.3, rel=1e-9)


def test_a_bound_that_cannot_be_says_so() -> None:
    with pytest.raises(UserError, match=r"a rate above 0 and a product above 1 \+ rate: got 0 and 5"):
        Bound(0, 5)
    with pytest.raises(UserError, match=r"got -1; write for example 0\.3"):
        Bound.of(-1, 4)


def test_shortcuts_tie_channels(net: MultiTaskNet) -> None:
    groups = {group.name: group for group in channel_groups(net, DATA.input)}
    # The stem is added to by both blocks of the first stage; the shortcut's convolution ties those of the second.
    assert set(groups["stem.0"].layers) == {"stem.0", "stages.0.0.conv2.0", "stages.0.1.conv2.0"}
    assert set(groups["stem.0"].norms) == {"stem.1", "stages.0.0.conv2.1", "stages.0.1.conv2.1"}
    assert set(groups["stages.1.0.conv2.0"].layers) == {"stages.1.0.conv2.0", "stages.1.0.shortcut.0", "stages.1.1.conv2.0"}
    # From coarse to fine, what a decoder smooths is added to the next level.
    assert set(groups["decoders.seg.lateral.0"].layers) == {"decoders.seg.lateral.0", "decoders.seg.smooth.1.0"}
    inside = {path for group in groups.values() for path in group.layers}
    convolutions = {path for path, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    assert convolutions - inside == {f"decoders.{task.name}.head" for task in DATA.tasks}
    assert sum(len(group.layers) for group in groups.values()) == len(inside)


def test_a_filter_is_worth_the_mean_of_its_weights_summed_over_the_layers(net: MultiTaskNet) -> None:
    (group,) = [group for group in channel_groups(net, DATA.input) if group.name == "stem.0"]
    layers = (net.stem[0], net.stages[0][0].conv2[0], net.stages[0][1].conv2[0])
    by_hand = [sum(float(layer.weight[c].detach().abs().mean()) for layer in layers) for c in range(8)]
    assert group.saliency(net).tolist() == pytest.approx(by_hand, rel=1e-5)
    worst = sorted(range(8), key=lambda c: by_hand[c])
    assert set(least_salient(group, net, 0.5)) == set(worst[:4])
    assert len(least_salient(group, net, 0.95)) == 7
    assert len(least_salient(group, net, 0.05)) == 0
    assert len(least_salient(group, net, 0.6, multiple=4)) == 4


def test_a_masked_network_computes_what_the_smaller_one_does(net: MultiTaskNet) -> None:
    generator = torch.Generator().manual_seed(1)
    groups = channel_groups(net, DATA.input)
    gone = {
        g.name: torch.randperm(g.channels, generator=generator)[
            : int(torch.randint(1, g.channels, (), generator=generator))
        ].tolist()
        for g in groups
    }
    masked = removed(net, DATA.input, {})
    masks = Masks(masked)
    for group in groups:
        masks.set(group, gone[group.name])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    smaller = removed(net, DATA.input, gone)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert macs(smaller) < macs(net)
    full, expected, found = outputs(net), outputs(masked), outputs(smaller)
    for task, output in expected.items():
        torch.testing.assert_close(found[task], output, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(full[task], output, atol=1e-3)

    again = narrowed(net, DATA.input, {g.name: g.channels - len(gone[g.name]) for g in groups})
    again.load_state_dict(smaller.state_dict())
    assert all(torch.equal(outputs(again)[task], output) for task, output in found.items())
    for group in groups:
        masks.set(group, ())
    assert all(torch.equal(outputs(masked)[task], output) for task, output in full.items())


def test_channels_that_are_not_there_are_refused(net: MultiTaskNet) -> None:
    with pytest.raises(NasError, match=r"'stem.1' is none; did you mean 'stem.0'\?"):
        removed(net, DATA.input, {"stem.1": [0]})
    with pytest.raises(NasError, match=r"all 8 of stem\.0 were to go"):
        removed(net, DATA.input, {"stem.0": range(8)})
    with pytest.raises(NasError, match=r"stem\.0 has 8, and 9 were to be kept"):
        narrowed(net, DATA.input, {"stem.0": 9})


class Two(MultiTaskNet):
    """A stem of four channels, four more, and two tasks; what each channel is for is written into the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1, bias=False)
        self.mix = nn.Conv2d(4, 4, 1, bias=False)
        self.heads_ = nn.ModuleDict({task: nn.Conv2d(4, 1, 1, bias=False) for task in ("left", "right")})
        with torch.no_grad():
            self.stem.weight.copy_(torch.tensor([1.0, 1e-6, 0.95, 1e-6]).reshape(4, 1, 1, 1))
            self.mix.weight.copy_(torch.diag(torch.tensor([1.0, 1e-6, 0.9, 1e-6])).reshape(4, 4, 1, 1))
            for channel, task in ((0, "left"), (2, "right")):
                weight = torch.full((4,), 1e-6)
                weight[channel] = 1
                self.heads_[task].weight.copy_(weight.reshape(1, 4, 1, 1))  # type: ignore[operator, union-attr]

    def encode(self, x: Tensor) -> Features:
        return [torch.relu(self.mix(torch.relu(self.stem(x))))]

    def decode(self, features: Features) -> Outputs:
        return {task: head(features[0]) for task, head in self.heads_.items()}

    def heads(self) -> dict[str, nn.Conv2d | nn.Linear]:
        return dict(self.heads_.items())  # type: ignore[arg-type]


GREY = InputSpec(1, 4, 4, (0.5,), (0.25,))


def prune_two(growth: float | Bound, right: float = 1.0, topk: float = 1.0) -> Pruning:
    """Losses are 1 plus how far each output is from what it was; the error of `right` counts `right` times."""
    net = Two().eval()
    x = torch.ones(2, 1, 4, 4)
    with torch.no_grad():
        truth = net(x)

    def losses(masked: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            found = masked(x)
        scale = {"left": 1.0, "right": right}
        return {task: 1 + scale[task] * float((found[task] - truth[task]).abs().mean()) for task in truth}

    return pagcp(net, GREY, losses, growth, topk=topk)


def test_useless_channels_are_found_and_no_others() -> None:
    made = prune_two(0.1)
    assert {cut.group: cut.channels for cut in made.cuts} == {"stem": (1, 3), "mix": (1, 3)}
    assert all(made.after[task] <= 1.1 * made.before[task] for task in made.before)
    assert made.macs == (16 * (4 + 16 + 8), 16 * (2 + 4 + 4))
    assert made.channels == {"stem": 2, "mix": 2}
    # The first group visited is the one whose pruning saves most: mix, which has the inputs of two heads.
    assert [cut.group for cut in made.cuts] == ["mix", "stem"]


def test_one_task_alone_can_hold_a_channel() -> None:
    # Channel 2 is worth less than channel 0, and only `right` needs it: where that task counts little, it goes first.
    made = prune_two(Bound(0.2, 1.3), right=0.1)
    assert {cut.group: cut.channels for cut in made.cuts}["mix"] == (1, 2, 3)
    assert made.after == pytest.approx({"left": 1, "right": 1 + 0.1 * 0.95 * 0.9}, abs=1e-4)
    strict = prune_two(Bound(0.05, 1.09), right=0.1)
    assert {cut.group: cut.channels for cut in strict.cuts}["mix"] == (1, 3)


def test_a_group_that_never_crosses_the_threshold_keeps_one_channel() -> None:
    made = prune_two(20.0)
    assert made.channels == {"stem": 1, "mix": 1}


def test_the_groups_that_cost_most_for_what_they_save_are_given_back() -> None:
    made = prune_two(Bound(0.2, 1.3), right=0.1, topk=0.5)
    # Once mix has lost what `right` needs, the stem can lose it for nothing.
    assert [(cut.group, cut.kept) for cut in made.cuts] == [("mix", False), ("stem", True)]
    assert [cut.macs for cut in made.cuts] == [16 * 3 * (4 + 2), 16 * 3 * (1 + 1)]
    assert made.channels == {"stem": 1}
    assert made.macs[1] == 16 * (1 + 4 + 8)


def test_a_factor_above_one_visits_what_saves_least_first() -> None:
    assert Bound(0.2, 1.5).decay(2) == pytest.approx(1.25)
    assert [cut.group for cut in prune_two(Bound(0.2, 1.5)).cuts] == ["stem", "mix"]


@pytest.mark.parametrize("growth", [0.02, 0.5])
def test_no_task_loses_more_than_it_may(net: MultiTaskNet, growth: float) -> None:
    truth = outputs(net)

    def losses(masked: nn.Module) -> dict[str, float]:
        found = outputs(masked)
        return {task: 0.1 + float((found[task] - truth[task]).square().mean()) for task in truth}

    made = pagcp(net, DATA.input, losses, growth, topk=1.0)
    assert all(made.after[task] <= (1 + growth) * made.before[task] for task in made.before)
    assert made.macs[1] < made.macs[0]
    assert made.macs[1] == macs(made.net)
    assert made.macs[0] - made.macs[1] == sum(cut.macs for cut in made.cuts)
    assert made.after == pytest.approx(losses(made.net), abs=1e-6)
