"""A realistic job, made of closed formulas and one seeded generator: the pages are tested on what a real store holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from nas.core import (
    ArchConfig,
    Artifact,
    Choice,
    CurvePoint,
    DataSpec,
    Evaluation,
    Fingerprint,
    JobSpec,
    JobState,
    Latency,
    Objective,
    PredictorReport,
    Profile,
    SearchSpace,
    Source,
    Stage,
    TaskSpec,
    TrainingSpec,
)
from nas.store import open_store

TASKS = ("seg", "depth", "normals")
RATIOS = (0.25, 0.5, 0.75, 1.0)
SPACE = SearchSpace(
    "slimmable",
    [
        Choice("resolution", (0.75, 1.0)),
        *(Choice(f"encoder.{stage}.width", RATIOS) for stage in range(4)),
        *(Choice(f"encoder.{stage}.depth", (1, 2)) for stage in range(4)),
        *(Choice(f"decoder.{task}.width", RATIOS) for task in TASKS),
    ],
)
SPEC = JobSpec(
    name="indoor scenes",
    tasks=tuple(TaskSpec(task) for task in TASKS),
    objectives=(
        Objective("error.seg"),
        Objective("error.depth"),
        Objective("error.normals"),
        Objective("macs"),
        Objective("latency_ms@local", limit=9.0),
    ),
    data=DataSpec("nyuv2", "../shared/data/vision/nyuv2_96x128.npz"),
    training=TrainingSpec(twins=True),
)
FINGERPRINT = Fingerprint("Example CPU", 2, "1.32.0", "CPUExecutionProvider", 1)


def metrics(arch: ArchConfig, noise: float = 0.0) -> dict[str, float]:
    """Return plausible metrics: errors fall with width, costs rise with its square."""
    encoder = float(np.mean([float(arch[f"encoder.{i}.width"]) for i in range(4)]))
    depth = float(np.mean([float(arch[f"encoder.{i}.depth"]) for i in range(4)]))
    decoders = {task: float(arch[f"decoder.{task}.width"]) for task in TASKS}
    scale = float(arch["resolution"]) ** 2
    strength = {task: encoder**0.5 * (0.7 + 0.15 * depth) * (0.35 + 0.65 * width**0.5) for task, width in decoders.items()}
    miou = 12 + 17 * strength["seg"] * float(arch["resolution"]) + noise
    rmse = 1.28 - 0.36 * strength["depth"] - noise / 60
    angle = 46 - 8.5 * strength["normals"] * float(arch["resolution"]) ** 0.5 - noise / 3
    macs = 9.4e8 * scale * (0.1 + 0.6 * encoder**2 * depth / 2 + 0.1 * sum(width**2 for width in decoders.values()))
    return {
        "error.seg": 1 - miou / 100,
        "error.depth": rmse,
        "error.normals": angle,
        "miou.seg": miou,
        "rmse_m.depth": rmse,
        "mean_deg.normals": angle,
        "macs": macs,
        "params": 3.33e6 * (0.05 + 0.95 * encoder**2 * depth / 2),
        "size_bytes": 4 * 3.33e6 * (0.05 + 0.95 * encoder**2 * depth / 2),
        "peak_bytes": 3.1e6 * encoder * scale,
        "latency_ms@local": 0.6 + macs / 7.5e7,
    }


def sample(path: Path, seed: int) -> None:
    """Write a picture of input, truth and prediction rows, as the verify stage does."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:96, 0:128]
    tiles = []
    for _ in range(3):
        cx, cy = rng.uniform(30, 98), rng.uniform(25, 70)
        ball = np.clip(1 - ((x - cx) ** 2 + (y - cy) ** 2) / 900, 0, 1)
        image = np.stack([60 + 140 * ball + y / 3, 70 + 80 * ball + x / 4, 110 - 40 * ball + y / 2], axis=-1)
        truth = np.stack([200 * (ball > 0), 80 + x / 2, 150 - y * (ball > 0)], axis=-1)
        tiles.append(np.concatenate([image, truth, np.roll(truth, 2, axis=1)], axis=1))
    Image.fromarray(np.clip(np.concatenate(tiles), 0, 255).astype(np.uint8)).resize((936, 702)).save(path)


def fill(url: str) -> str:
    """Store a finished job and return its id: 80 candidates, 20 of them verified, and all that goes with them."""
    store, rng = open_store(url), np.random.default_rng(7)
    job = store.create_job(SPEC)
    store.set_state(job, JobState.RUNNING)
    archs = [SPACE.smallest(), SPACE.largest()]
    while len(archs) < 80:
        archs.append(SPACE.sample(rng))
    counts = {Stage.TRAIN: 800, Stage.TWINS: 3, Stage.PROFILE: 40, Stage.FIT: 1, Stage.SEARCH: 80, Stage.VERIFY: 20}
    for stage in store.stages(job):
        store.start(job, stage)
        store.progress(job, stage, counts[stage], counts[stage], "steps")
        store.finish(job, stage)
    searched = []
    for i, arch in enumerate(archs):
        found = metrics(arch, rng.normal(0, 0.4))
        if i == 40:
            searched.append(Evaluation(arch, {}, Source.MEASURED, "search", failure="its loss was not finite"))
            continue
        source = Source.MEASURED if i % 4 == 0 else Source.PREDICTED
        std = {"latency_ms@local": 0.03 * found["latency_ms@local"]} if source is Source.PREDICTED else {}
        searched.append(Evaluation(arch, found, source, "search", split="val", std=std))
    store.add(job, searched)
    ranked = sorted((row for row in searched if not row.failure), key=lambda row: row.metrics["latency_ms@local"])
    verified = [
        Evaluation(
            row.arch,
            {**metrics(row.arch, rng.normal(0, 0.2)), "delta_m": float(rng.normal(2, 3))},
            Source.MEASURED,
            "verify",
            split="test",
            device=FINGERPRINT.key,
            std={"latency_ms@local": 0.02 * row.metrics["latency_ms@local"]},
        )
        for row in (ranked[i] for i in np.linspace(0, len(ranked) - 1, 20).astype(int))
    ]
    store.add(job, verified)
    points = []
    for task in TASKS:
        decay = {"seg": 140.0, "depth": 90.0, "normals": 200.0}[task]
        points += [
            CurvePoint(f"loss.{task}", step, float(0.4 + 2 * np.exp(-step / decay) + rng.normal(0, 0.04)))
            for step in range(5, 801, 5)
        ]
        for subnet, best in (("largest", 0.72), ("smallest", 0.84)):
            points += [
                CurvePoint(f"val.{subnet}.error.{task}", step, float(best + 0.5 * np.exp(-step / decay)))
                for step in range(40, 801, 40)
            ]
    store.add_curve(job, points)
    store.add_profiles(
        job,
        [
            Profile(
                row.arch,
                "local",
                FINGERPRINT,
                Latency(ms, ms / 4, 0.03 + 0.1 * (i % 9 == 0), ms, ms * 0.9, ms * 1.02, ms * 1.3, 120, noisy=i % 9 == 0),
                {name: row.metrics[name] for name in ("macs", "params", "size_bytes", "peak_bytes")},
            )
            for i, row in enumerate(ranked[:40])
            for ms in [row.metrics["latency_ms@local"] * float(rng.normal(1, 0.03))]
        ],
    )
    truth = [row.metrics["latency_ms@local"] for row in ranked[2::4]]
    predicted = [value * float(rng.normal(1.01, 0.055)) for value in truth]
    quality = {"mape": 0.046, "within_10": 0.94, "kendall_tau": 0.931, "coverage_90": 0.89}
    report = PredictorReport("latency_ms@local", "gp", 30, len(truth), quality, tuple(truth), tuple(predicted))
    store.save_predictor(job, report, {})
    folder = store.folder(job)
    for i, row in enumerate(verified):
        key, path = row.arch.key, folder / f"sample-{row.arch.key}.png"
        sample(path, i)
        store.add_artifact(job, Artifact("sample", path, hashlib.sha256(path.read_bytes()).hexdigest(), key))
    exported = verified[0].arch.key
    for kind, name, content in (
        ("onnx", f"{exported}.onnx", b"\x08\x08onnx" * 900),
        ("card", f"{exported}.md", b"# Model card\n\n| metric | value |\n|---|---|\n| mIoU | 17.1 % |\n"),
        ("card", f"{exported}.json", b'{"metrics": {"miou.seg": 17.1}}'),
    ):
        path = folder / name
        path.write_bytes(content)
        store.add_artifact(job, Artifact(kind, path, hashlib.sha256(content).hexdigest(), exported))
    store.log(job, "started on 2 cores")
    store.log(job, "one candidate was skipped: its loss was not finite", "warning")
    store.log(job, "20 networks verified, 18 on the front")
    store.set_state(job, JobState.DONE)
    store.close()
    return job


def begin(url: str) -> str:
    """Store a job that is training, and return its id."""
    store = open_store(url)
    job = store.create_job(SPEC)
    driver = store.claim(job, "host:1")
    assert driver is not None
    store.set_state(job, JobState.RUNNING)
    store.start(job, Stage.TRAIN)
    store.progress(job, Stage.TRAIN, 200, 800, "steps", "epoch 5 of 20")
    store.start(job, Stage.PROFILE)
    store.progress(job, Stage.PROFILE, 12, 40, "subnets")
    store.add_curve(job, [CurvePoint("loss.seg", step, 2.0 / step) for step in range(1, 20)])
    driver.heartbeat()
    store.close()
    return job


def search(url: str) -> str:
    """Store a job in the middle of its search, and return its id: five candidates, nothing verified."""
    store, rng = open_store(url), np.random.default_rng(3)
    job = begin(url)
    rows = [
        Evaluation(arch, metrics(arch), Source.PREDICTED, "search", split="val")
        for arch in (SPACE.sample(rng) for _ in range(5))
    ]
    store.add(job, rows)
    store.close()
    return job


def fail(url: str) -> str:
    """Store a job that failed in training, and return its id."""
    store = open_store(url)
    job = store.create_job(SPEC)
    store.set_state(job, JobState.RUNNING)
    store.start(job, Stage.TRAIN)
    store.fail(job, Stage.TRAIN, "the loss of <depth> is not finite at step 12; lower training.learning_rate")
    store.log(job, "the loss of <depth> is not finite at step 12", "error")
    store.set_state(job, JobState.FAILED, "the loss of <depth> is not finite at step 12; lower training.learning_rate")
    store.close()
    return job
