"""A subnet as a checked ONNX file with a model card."""

from nas.export.card import CardFacts, make_card, run_snippet, to_markdown
from nas.export.check import check_file, max_differences, open_session, run_over, weight_bytes
from nas.export.export import Exported, export_model
from nas.export.exporter import Exporter, to_onnx
from nas.export.quantize import quantize
from nas.export.sensitivity import Measured, Sensitivity, measure_sensitivity, payoffs, seed_policies
from nas.export.traced import BATCH, INPUT_NAME

__all__ = [
    "BATCH",
    "INPUT_NAME",
    "CardFacts",
    "Exported",
    "Exporter",
    "Measured",
    "Sensitivity",
    "check_file",
    "export_model",
    "make_card",
    "max_differences",
    "measure_sensitivity",
    "open_session",
    "payoffs",
    "quantize",
    "run_over",
    "run_snippet",
    "seed_policies",
    "to_markdown",
    "to_onnx",
    "weight_bytes",
]
