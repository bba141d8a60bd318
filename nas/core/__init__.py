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
    QuantizationSpec,
    SearchSpec,
    SpaceSpec,
    Stage,
    StageState,
    TaskSpec,
    TrainingSpec,
)
from nas.core.objective import Objective, parse_limit, parse_preference, to_minimise
from nas.core.pareto import hypervolume, pareto_mask
from nas.core.precision import PRECISIONS, Precision, is_fp32, policy_of, with_policy, without_policy
from nas.core.preference import recommend
from nas.core.protocols import Predictor, Searcher, Store
from nas.core.records import Artifact, CurvePoint, Event, JobRecord, PredictorReport, Profile, StageRecord
from nas.core.space import Aliases, Choice, SearchSpace
from nas.core.task import InputSpec, Metric, Task
from nas.core.types import BoolArray, Codes, FloatArray

__all__ = [
    "PRECISIONS",
    "Aliases",
    "ArchConfig",
    "ArchError",
    "Artifact",
    "BoolArray",
    "CancelledError",
    "Choice",
    "Codes",
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
    "Precision",
    "Predictor",
    "PredictorReport",
    "Profile",
    "QuantizationSpec",
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
    "is_fp32",
    "nearest",
    "pareto_mask",
    "parse_limit",
    "parse_preference",
    "policy_of",
    "recommend",
    "to_minimise",
    "with_policy",
    "without_policy",
]
