"""What the pages read: the store that the command line names, and short-lived copies of a job's values."""

from __future__ import annotations

import argparse
import sys

import streamlit as st

from nas.core import Artifact, Evaluation, Event, JobRecord, PredictorReport, Profile, Stage, StageRecord
from nas.core.affinity import AFFINITY, Affinity, stored_affinity
from nas.core.control import KIND, ControlTable, stored_table, subject
from nas.store import SqlStore, open_store

FRESH_S = 1.5  # how old a copy may be: shorter than the time between two live updates


def url() -> str | None:
    """Return the ``--store`` of the command line, else None, which the store reads as its default."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--store", default=None)
    found: str | None = parser.parse_known_args(sys.argv[1:])[0].store
    return found


@st.cache_resource(show_spinner=False)
def _open(at: str | None) -> SqlStore:
    return open_store(at, create=False)  # a reader makes no file


def _store() -> SqlStore:
    return _open(url())


def damages() -> list[str]:
    """Return a sentence for each table that holds rows which cannot be read."""
    return _store().damages.sentences()


def jobs() -> list[JobRecord]:
    """Return every job, the newest first."""
    return _store().jobs()


def job(name: str) -> JobRecord:
    """Return a job by its id, the start of its id, or ``latest``.

    Raises:
        NotFoundError: The store holds no such job.
    """
    return _store().job(name)


def stages(job_id: str) -> dict[Stage, StageRecord]:
    """Return every stage of a job in its order."""
    return _store().stages(job_id)


# The values are frozen, so the copies are shared between readers rather than pickled for each.
@st.cache_resource(ttl=FRESH_S, max_entries=16, show_spinner=False)
def _evaluations(at: str | None, job_id: str) -> list[Evaluation]:
    return _open(at).evaluations(job_id)


def evaluations(job_id: str) -> list[Evaluation]:
    """Return a job's evaluations."""
    return _evaluations(url(), job_id)


@st.cache_resource(ttl=FRESH_S, max_entries=16, show_spinner=False)
def _curves(at: str | None, job_id: str) -> dict[str, list[tuple[int, float]]]:
    return _open(at).curves(job_id)


def curves(job_id: str) -> dict[str, list[tuple[int, float]]]:
    """Return a job's curves."""
    return _curves(url(), job_id)


def profiles(job_id: str) -> list[Profile]:
    """Return what was measured of a job's subnets."""
    return _store().profiles(job_id)


def predictors(job_id: str) -> list[PredictorReport]:
    """Return a job's predictors."""
    return [report for report, _ in _store().predictors(job_id)]


def events(job_id: str) -> list[Event]:
    """Return a job's log, oldest first."""
    return _store().events(job_id)


def artifacts(job_id: str, kind: str, key: str) -> list[Artifact]:
    """Return the files of one architecture that are still there."""
    return [each for each in _store().artifacts(job_id, kind, key) if each.path.is_file()]


def affinity(job_id: str) -> Affinity | None:
    """Return how alike a job's tasks are; None where that was not measured, or its file is gone or damaged."""
    found = [stored_affinity(each.path) for each in _store().artifacts(job_id, AFFINITY)]
    return next((each for each in reversed(found) if each is not None), None)


@st.cache_resource(max_entries=8, show_spinner=False)
def _control(at: str | None, job_id: str, made: str) -> ControlTable | None:
    return stored_table(_open(at), job_id)


def control(job_id: str) -> ControlTable | None:
    """Return the control table of a job, read once; None where it has none of its present weights."""
    found = _store().artifacts(job_id, KIND)
    return _control(url(), job_id, f"{found[-1].sha256} {subject(_store(), job_id)}") if found else None
