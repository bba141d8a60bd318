"""From a module to a checked file with its card: all of it or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nas.core import is_fp32, policy_of
from nas.core.json_text import to_json
from nas.core.scratch import scratch
from nas.export.card import CardFacts, make_card, to_markdown
from nas.export.check import TOLERANCE, check_file, max_differences
from nas.export.exporter import to_onnx


@dataclass(frozen=True, slots=True)
class Exported:
    """The files of an export.

    Attributes:
        onnx: The network.
        json: Its card for programs.
        markdown: Its card for people.
        card: What `json` holds.
    """

    onnx: Path
    json: Path
    markdown: Path
    card: Mapping[str, Any]


def export_model(
    module: nn.Module,
    facts: CardFacts,
    folder: Path,
    name: str,
    samples: Sequence[Tensor] = (),
    measure: Callable[[Path], Mapping[str, float]] | None = None,
    content: bytes | None = None,
) -> Exported:
    """Write ``NAME.onnx``, ``NAME.json`` and ``NAME.md`` into a folder, once every check has passed.

    The file is made under another name in the same folder, passes onnx's checker, is compared with torch, is measured, and
    only then takes its place; the ONNX file comes last, so that one that is there has its card.

    Args:
        module: The network.
        facts: What the card says of it.
        folder: Made if it is not there.
        name: Name of the files, without an ending.
        samples: Inputs to compare on besides random ones, each of shape (n, channels, height, width).
        measure: Measures the file itself (accuracy, latency) and returns metrics for the card; it raises `ExportError`
            where they are not what was promised.
        content: The ONNX file, where it was made of the module before; None makes it here.

    Raises:
        ExportError: The module cannot be exported, or a check failed. Nothing is left behind; files of a former export under
            this name stay as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"job": facts.job, "space": facts.space, "arch": facts.arch.to_json(), "arch_key": facts.arch.key}
    with scratch(folder) as place:
        made = place / f"{name}.onnx"
        if content is None:
            to_onnx(module, facts.input, made, facts.tasks, metadata)
        else:
            made.write_bytes(content)
        check_file(made, facts.tasks)
        tolerance = TOLERANCE if is_fp32(policy_of(facts.arch)) else math.inf
        differences = max_differences(made, module, facts.input, facts.tasks, samples, tolerance)
        measured = measure(made) if measure else {}
        card = make_card(facts, made, name, differences, measured)
        made.with_suffix(".json").write_text(to_json(card, indent=2) + "\n", encoding="utf-8")
        made.with_suffix(".md").write_text(to_markdown(card), encoding="utf-8")
        for ending in (".json", ".md", ".onnx"):
            made.with_suffix(ending).replace(folder / f"{name}{ending}")
    return Exported(folder / f"{name}.onnx", folder / f"{name}.json", folder / f"{name}.md", card)
