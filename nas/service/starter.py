"""The job file that `nas init` writes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from nas.core import DataSpec, QuantizationSpec, SearchSpec, TrainingSpec

STARTER = """\
# A job of nas: one network for several tasks, searched under what it costs on a device.
# Run it with: nas run FILE       Keys that are commented out show their defaults. All keys: docs/job-file.md

name: {name}

# What the network sees. scenes is generated and needs no download; others: nyuv2, digits, cifar100_mtl,
# or your own function: python:package.module:function
data:
  name: scenes
  # path: my_data.npz            # relative to this file, for data sets that are files
  # val_fraction: {data[val_fraction]}  # share of the training images that candidates are compared on

# What it predicts, all at once. A weight matters with balancing: fixed.
tasks:
  - seg
  - depth
  - {{name: normals, weight: 1.0}}

# What is traded off: at least two. error.TASK, a metric of a task (miou.seg), delta_m, macs, params, size_bytes,
# peak_bytes, latency_ms@DEVICE. A limit is a bound that every point of the front keeps.
objectives:
  - error.seg
  - error.depth
  - error.normals
  - latency_ms@local             # or with a limit: latency_ms@local<=5

# Where latency is measured: names from nas devices, or paths of device files.
devices: [local]

# Which networks there are to choose from.
space:
  name: slimmable
  # options: {{widths: [0.25, 0.5, 0.75, 1.0], depths: [1, 2], resolutions: [0.75, 1.0]}}

training:
  epochs: 10
  batch_size: 32
  # learning_rate: {training[learning_rate]}  # the peak of the one-cycle schedule
  # weight_decay: {training[weight_decay]}
  # subnets: {training[subnets]}  # per step: the largest, the smallest, the rest random
  # distillation: {training[distillation]}  # weight of the largest subnet's predictions as targets
  # encoder_distillation: {training[encoder_distillation]}  # weight of the largest subnet's features as targets
  # balancing: {training[balancing]}  # or fixed (the tasks' weights), uncertainty (learned), svd (what the tasks share)
  # workers: {training[workers]}  # data-parallel processes
  # device: {training[device]}  # or cpu, cuda
  # precision: {training[precision]}  # or fp32, bf16
  # augment: {training[augment]}
  # twins: {training[twins]}  # true also trains a network per task, for delta_m
  # twin_epochs: {training[twin_epochs]}  # null: as many as the supernet
  # reuse: {training[reuse]}  # id of a job whose trained supernet and measurements are taken instead of training

search:
  sampler: predictor             # or linas, tpe, nsga2, random; differentiable for space branched
  evaluations: 100               # candidates whose accuracy is measured
  # batch_size: {search[batch_size]}
  # workers: {search[workers]}  # evaluation processes
  # profile_samples: {search[profile_samples]}  # subnets whose latency is measured for the latency predictor
  # calibration_images: {search[calibration_images]}  # for the batch-norm statistics of a candidate
  # verify: {search[verify]}  # most candidates measured again, in full, for the front
  # screening: {search[screening]}  # such as 0.25: score twice as many on a quarter of the images first

quantization:
  # search: {quantization[search]}  # true: the precision of every block is searched too, each candidate by its own ONNX file
  # calibration_images: {quantization[calibration_images]}
  # max_loss: {quantization[max_loss]}  # most relative loss of one block's precision

# executor: ray                  # or local: one process without Ray
# seed: 0
"""


def starter(name: str = "my-job") -> str:
    """Return a commented job file that runs as it is.

    Args:
        name: Of the job; what cannot be part of a name is dropped.
    """
    plain = "".join(character for character in name if character.isprintable()).strip()[:100]
    title = json.dumps(plain or "my-job", ensure_ascii=False)
    return STARTER.format(
        name=title,
        data=_defaults(DataSpec),
        training=_defaults(TrainingSpec),
        search=_defaults(SearchSpec),
        quantization=_defaults(QuantizationSpec),
    )


def _defaults(spec: type[Any]) -> dict[str, str]:
    """Return the default of each field as YAML writes it."""
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    return {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in defaults.items()}
