"""Values and protocols that cross floors; the standard library and NumPy only."""

from nas.core.arch import ArchConfig, Option
from nas.core.device import Device, Fingerprint, Latency
from nas.core.errors import (
    ArchError,
    CancelledError,
    DataError,
    DeviceError,
    ExportError,
    JobFileError,
    NasError,
    NotFoundError,
    ObjectiveError,
    StoreError,
    UserError,
    WorkerError,
    nearest,
)
from nas.core.evaluation import Evaluation, Source, front
from nas.core.job import (
    DataSpec,
    JobId,
    JobSpec,
    JobState,
    SearchSpec,
    SpaceSpec,
    Stage,
    StageState,
    TaskSpec,
    TrainingSpec,
)
from nas.core.objective import Objective, parse_limit, parse_preference, to_minimise
from nas.core.pareto import hypervolume, pareto_mask
from nas.core.preference import recommend
from nas.core.protocols import Predictor, Searcher, Store
from nas.core.records import Artifact, CurvePoint, Event, JobRecord, PredictorReport, Profile, StageRecord
from nas.core.space import Choice, SearchSpace
from nas.core.task import InputSpec, Metric, Task
from nas.core.types import BoolArray, FloatArray

__all__ = [
    "ArchConfig",
    "ArchError",
    "Artifact",
    "BoolArray",
    "CancelledError",
    "Choice",
    "CurvePoint",
    "DataError",
    "DataSpec",
    "Device",
    "DeviceError",
    "Evaluation",
    "Event",
    "ExportError",
    "Fingerprint",
    "FloatArray",
    "InputSpec",
    "JobFileError",
    "JobId",
    "JobRecord",
    "JobSpec",
    "JobState",
    "Latency",
    "Metric",
    "NasError",
    "NotFoundError",
    "Objective",
    "ObjectiveError",
    "Option",
    "Predictor",
    "PredictorReport",
    "Profile",
    "SearchSpace",
    "SearchSpec",
    "Searcher",
    "Source",
    "SpaceSpec",
    "Stage",
    "StageRecord",
    "StageState",
    "Store",
    "StoreError",
    "Task",
    "TaskSpec",
    "TrainingSpec",
    "UserError",
    "WorkerError",
    "front",
    "hypervolume",
    "nearest",
    "pareto_mask",
    "parse_limit",
    "parse_preference",
    "recommend",
    "to_minimise",
]
