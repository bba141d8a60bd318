"""What every search space promises, checked on its smallest and its largest network, without computing anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.core import ArchConfig, ArchError, InputSpec, SearchSpace, Task
from nas.supernet.definition import MultiTaskNet, SpaceDefinition

MEMBERS = ("space", "teacher", "tasks", "input", "build", "super_module", "views", "macs")


def check_definition(name: str, definition: SpaceDefinition, tasks: Sequence[Task], input: InputSpec) -> None:
    """Raise unless a definition keeps its promises; `tests/contracts` has more of them, which take longer.

    Args:
        name: Of the space, for errors.
        definition: Made for these tasks and this input.
        tasks: Of the job.
        input: Of the job.

    Raises:
        ArchError: A member is missing, a network cannot be built or run, predicts something else than the tasks need, has a
            parameter that is no slice of the shared weights, or costs something else than `macs` says.
    """
    missing = [member for member in MEMBERS if not hasattr(definition, member)]
    if missing or not isinstance(definition.space, SearchSpace):
        raise ArchError(
            f"a search space has the members of nas.supernet.SpaceDefinition: {name!r} lacks "
            f"{', '.join(missing) or 'a SearchSpace as its space'}; docs/your-own.md lists them"
        )
    if tuple(definition.tasks) != tuple(tasks) or definition.input != input:
        raise ArchError(f"a search space keeps the tasks and the input that it is made for: {name!r} has others; store them")
    try:
        for arch in (definition.space.smallest(), definition.space.largest()):
            _check_network(name, definition, arch)
    except ArchError:
        raise
    except Exception as error:  # whatever a user's networks raise
        raise ArchError(
            f"the networks of a search space can be built and run: {name!r} gave {type(error).__name__}: {error}; mend it"
        ) from error


def _check_network(name: str, definition: SpaceDefinition, arch: ArchConfig) -> None:
    spec = definition.input
    with torch.device("meta"):  # shapes are enough
        shared, net = definition.super_module().state_dict(), definition.build(arch).eval()
        if not isinstance(net, MultiTaskNet):
            raise ArchError(
                f"the networks of a search space are nas.supernet.MultiTaskNets: {name!r} builds {type(net).__name__}"
            )
        own = net.state_dict()
        views = definition.views(arch, {key: tensor.shape for key, tensor in own.items()})
        for key, tensor in own.items():
            view = views.get(key)
            if view is None or view.name not in shared or view.of(shared[view.name]).shape != tensor.shape:
                raise ArchError(
                    f"every parameter and buffer is a slice of a shared one: {key!r} of {name!r}, of shape "
                    f"{tuple(tensor.shape)}, is not; mend views or super_module"
                )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = net(torch.zeros(2, spec.channels, spec.height, spec.width))
    expected = {
        task.name: (2, task.outputs, spec.height, spec.width) if task.dense else (2, task.outputs) for task in definition.tasks
    }
    found = {task: tuple(prediction.shape) for task, prediction in outputs.items()}
    if found != expected or list(net.heads()) != list(expected):
        raise ArchError(
            f"a network predicts each task in order, and names each one's last layer: of two images {name!r} predicts {found}, "
            f"not {expected}, with the heads {list(net.heads())}"
        )
    counted, said = counter.get_total_flops() / 4, float(definition.macs([arch])[0])  # two images, two flops each
    if counted != said:
        raise ArchError(f"macs are what torch counts: {name!r} says {said:.12g} and torch {counted:.12g} of {arch.to_json()}")
