"""The control table of a job: what is predicted of its subnets, made once from what its search has measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nas.core import (
    ArchConfig,
    Artifact,
    Codes,
    Evaluation,
    FloatArray,
    JobId,
    Option,
    SearchSpace,
    Stage,
    StageState,
    Store,
    UserError,
)
from nas.core.control import KIND, ControlTable, Cost, stored_table, subject, vectors
from nas.core.precision import PREFIX
from nas.search.codes import Coder
from nas.search.control import choose_steps
from nas.search.controllability import uniform_codes
from nas.search.encoders import choose_encoders
from nas.service.job_data import stored_data
from nas.service.latency_features import Vectorised
from nas.service.reuse import REUSED
from nas.service.stages.fit import predicted_latency
from nas.service.stages.search import SEARCH
from nas.service.stages.verify import VERIFY
from nas.service.trust import trusted_spec
from nas.service.workers import searched_definition
from nas.supernet import SpaceDefinition
from nas.train.checkpoint import sha256
from predictors import make_predictor
from predictors.features import architecture_features
from predictors.quality import held_out

ERRORS = "gaussian_process"  # predictor of a task's error
MOST_SUBNETS = 2**19  # of a table
LEAST_ROWS = 3  # from which a held-out error can be told
LEAST_ENCODERS = 8  # of a table
KEPT = 0.95  # share of subnets whose measured cost keeps the prediction with its margin
"""A split-conformal bound (Papadopoulos et al., 2002) over held-out and verified subnets gives it, where there are enough."""

Predict = Callable[[Codes, int], FloatArray]  # codes of encoders and a width to one number each, (n,)


def control_table(store: Store, job: JobId) -> ControlTable:
    """Return the control table of a searched job, which is made and recorded where the job has none of its present weights.

    Raises:
        UserError: The job is not trained and searched, or its space has no decoders whose width can be picked.
    """
    return stored_table(store, job) or _made(store, job)


def _made(store: Store, job: JobId) -> ControlTable:
    stages = store.stages(job)
    for stage in (Stage.TRAIN, Stage.FIT, Stage.SEARCH):
        if stage in stages and stages[stage].state is not StageState.DONE:
            raise UserError(
                f"control needs a trained and searched supernet: stage {stage} of job {job} is {stages[stage].state}; "
                f"let the job finish, or go on with nas resume {job}"
            )
    spec = trusted_spec(store, job)
    definition = searched_definition(spec, stored_data(store, job))
    rows = [*store.evaluations(job, REUSED), *store.evaluations(job, SEARCH)]
    table = _table(store, job, definition, [row for row in rows if not row.failure])
    path = store.folder(job) / "control.npz"
    table.save(path)
    store.add_artifact(job, Artifact(KIND, path, sha256(path), info={"of": subject(store, job)}))
    return table


def _table(store: Store, job: JobId, definition: SpaceDefinition, rows: Sequence[Evaluation]) -> ControlTable:
    spec, space = trusted_spec(store, job), definition.space
    tasks = tuple(task.name for task in spec.tasks)
    rows = [row for row in rows if all(math.isfinite(row.metrics.get(f"error.{task}", math.nan)) for task in tasks)]
    if len(rows) < LEAST_ROWS:
        raise UserError(
            f"control predicts every task's error from at least {LEAST_ROWS} candidates that have them all: this search has "
            f"{len(rows)}; give every task labels in the validation split, and search more"
        )
    widths = _decoder_widths(space, tasks)
    parts = SearchSpace(space.name, [c for c in space.choices if c.name not in _decoders(tasks)], space.aliases)
    coder, rng = Coder(parts), np.random.default_rng([spec.seed, 7])
    fixed = {c.name: c.options[-1] for c in parts.choices if c.name.startswith(PREFIX)}  # fp32
    if len(widths) ** len(tasks) * LEAST_ENCODERS > MOST_SUBNETS:
        raise UserError(
            f"control chooses among all widths of all decoders: {len(widths)} widths of {len(tasks)} decoders are "
            f"{float(len(widths)) ** len(tasks):.3g} combinations, and {MOST_SUBNETS // LEAST_ENCODERS} are the most; give the "
            "space fewer widths, or the job fewer tasks; nas pareto and nas export go without control"
        )
    combinations = vectors(len(tasks), len(widths))
    errors, off = _error_predictors(space, coder, tasks, widths, rows, rng)
    functions, margins = _cost_functions(store, job, definition)

    def costs_of(codes: Codes, column: int) -> FloatArray:
        archs = _archs(coder, codes, tasks, [widths[n] for n in combinations[column]])
        return np.array([f(archs) for f in functions.values()])

    def predicted(codes: Codes, column: int) -> tuple[FloatArray, FloatArray]:
        values = np.array([f(codes, int(combinations[column, t])) for t, f in enumerate(errors)])
        return values, costs_of(codes, column)

    seen, most = [_encoder(row.arch, tasks) for row in rows], MOST_SUBNETS // len(combinations)
    choices = tuple((choice.name, choice.options) for choice in parts.choices)
    always = uniform_codes(choices, widths)
    encoders = choose_encoders(coder, fixed, seen, predicted, len(combinations), most, always, rng)
    grid = np.array([[f(encoders, width) for width in range(len(widths))] for f in errors]).transpose(0, 2, 1)
    columns = [costs_of(encoders, column) for column in range(len(combinations))]
    costs = {
        metric: Cost(np.array([column[i] for column in columns]).T.astype(np.float32), *margins[metric])
        for i, metric in enumerate(functions)
    }
    top = coder.encode([_encoder(space.largest(), tasks)])
    largest = np.array([f(top, len(widths) - 1)[0] for f in errors])
    steps = {metric: choose_steps(grid / largest[:, None, None], cost, rng) for metric, cost in costs.items()}
    checkpoint = store.stages(job)[Stage.TRAIN].result.get("checkpoint") or ""
    return ControlTable(tasks, widths, choices, encoders, grid, largest, off, costs, steps, checkpoint)


def _decoders(tasks: Sequence[str]) -> list[str]:
    return [f"decoder.{task}.width" for task in tasks]


def _decoder_widths(space: SearchSpace, tasks: Sequence[str]) -> tuple[Option, ...]:
    """Return the options of the decoders' widths, which all decoders share."""
    found = {space[name].options if name in space else () for name in _decoders(tasks)}
    options = next(iter(found))
    if len(found) != 1 or len(options) < 2:
        raise UserError(
            f"control widens decoders: those of space {space.name} do not all have the same two widths or more to pick from; "
            "run a job whose space has them, such as slimmable or branched"
        )
    return options


def _encoder(arch: ArchConfig, tasks: Sequence[str]) -> ArchConfig:
    """Return an architecture without the widths of its decoders."""
    return ArchConfig({name: option for name, option in arch.items() if name not in _decoders(tasks)})


def _archs(coder: Coder, codes: Codes, tasks: Sequence[str], widths: Sequence[Option]) -> list[ArchConfig]:
    """Return whole architectures: each encoder with the same decoders."""
    decoders = dict(zip(_decoders(tasks), widths, strict=True))
    names, options = [c.name for c in coder.space.choices], [c.options for c in coder.space.choices]
    return [
        ArchConfig({**{n: o[j] for n, o, j in zip(names, options, row, strict=True) if j >= 0}, **decoders})
        for row in codes.tolist()
    ]


def _error_predictors(
    space: SearchSpace,
    coder: Coder,
    tasks: Sequence[str],
    widths: Sequence[Option],
    rows: Sequence[Evaluation],
    rng: np.random.Generator,
) -> tuple[list[Predict], FloatArray]:
    """Return a function per task of encoders and the width of its decoder, and each one's held-out error, shape (tasks,).

    What the other decoders are does not reach a task's error, and is not shown to its predictor.
    """
    found: list[Predict] = []
    off = []
    for task in tasks:
        others = [f"decoders.{other}" for other in tasks if other != task]
        own = [c for c in coder.space.choices if c.name.removeprefix(PREFIX) not in others]
        keep = [i for i, c in enumerate(coder.space.choices) if c in own]
        sub = SearchSpace(space.name, [*own, space[f"decoder.{task}.width"]])
        eye = Coder(sub)

        def features(codes: Codes, width: FloatArray, keep: list[int] = keep, eye: Coder = eye) -> FloatArray:
            whole = np.hstack([codes[:, keep], width[:, None]]).astype(np.int16)
            return architecture_features(eye.space, eye.one_hot(whole))

        codes = coder.encode([_encoder(row.arch, tasks) for row in rows])
        picked = np.array([widths.index(row.arch[f"decoder.{task}.width"]) for row in rows])
        inputs, targets = features(codes, picked), np.array([row.metrics[f"error.{task}"] for row in rows])
        _, truth, held = held_out(lambda: make_predictor(ERRORS), inputs, targets, rng)
        off.append(float(np.sqrt(np.mean((truth / held - 1) ** 2))))
        predictor = make_predictor(ERRORS)
        predictor.fit(inputs, targets)
        found.append(
            lambda codes, width, predictor=predictor, features=features: predictor.predict(  # type: ignore[misc]
                features(codes, np.full(len(codes), width))
            )[0]
        )
    return found, np.array(off)


def _cost_functions(
    store: Store, job: JobId, definition: SpaceDefinition
) -> tuple[dict[str, Vectorised], dict[str, tuple[float, float]]]:
    """Return each cost as a function of architectures, and its margin and root mean square error."""
    functions: dict[str, Vectorised] = dict(predicted_latency(store, job, definition))
    reports = {report.target: report for report, _ in store.predictors(job)}
    margins = {}
    verified = [row for row in store.evaluations(job, VERIFY) if not row.failure]
    for metric, function in functions.items():
        truth, guess = np.array(reports[metric].truth), np.array(reports[metric].predicted)
        own = [row for row in verified if metric in row.metrics]
        if own:
            truth = np.concatenate([truth, [row.metrics[metric] for row in own]])
            guess = np.concatenate([guess, function([row.arch for row in own])])
        margins[metric] = margin_of(truth / guess - 1)
    functions["macs"], margins["macs"] = definition.macs, (0.0, 0.0)
    return functions, margins


def margin_of(excess: FloatArray) -> tuple[float, float]:
    """Return the margin and the root mean square of relative errors (measured over predicted, less one), shape (n,).

    The margin is the smallest that a further subnet, exchangeable with these, keeps with a chance of `KEPT`; where there are
    too few to tell, the largest error there was, or twice their root mean square where that is more.
    """
    if not len(excess):
        return 0.0, 0.0
    rank, off = int(np.ceil(KEPT * (len(excess) + 1))), float(np.sqrt(np.mean(excess**2)))
    ordered = np.sort(excess)
    margin = ordered[rank - 1] if rank <= len(excess) else max(ordered[-1], 2 * off)
    return max(0.0, float(margin)), off
