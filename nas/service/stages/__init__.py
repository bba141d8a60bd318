"""The stages of a job, one file each. A stage takes the job's context, is idempotent, and finishes with one commit."""

from nas.service.stages.fit_within_limits import fit_within_limits
from nas.service.stages.profile_rest import profile_rest
from nas.service.stages.search import search
from nas.service.stages.sensitivity import sensitivity
from nas.service.stages.train import train
from nas.service.stages.twins import twins
from nas.service.stages.verify import verify

__all__ = ["fit_within_limits", "profile_rest", "search", "sensitivity", "train", "twins", "verify"]
