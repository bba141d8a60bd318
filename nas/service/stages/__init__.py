"""The stages of a job, one file each, and the steps that they share (`listing`, `candidate_latency`).

A stage takes the job's context, is idempotent, and finishes with one commit.
"""

from nas.service.stages.fit import fit
from nas.service.stages.profile import profile
from nas.service.stages.search import search
from nas.service.stages.sensitivity import sensitivity
from nas.service.stages.train import train
from nas.service.stages.twins import twins
from nas.service.stages.verify import verify

__all__ = ["fit", "profile", "search", "sensitivity", "train", "twins", "verify"]
