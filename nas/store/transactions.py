"""Transactions, and what every method of the store does inside one: tell the time, find its job, insert rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import cast

from sqlalchemy import Engine, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from nas.core import ArchConfig, JobId, NotFoundError, Stage
from nas.store import encoding
from nas.store.encoding import Row
from nas.store.models import ArchitectureRow, Base, JobRow, StageRow


class Transactions:
    """Sessions on an engine; leaving one on an exception undoes what was written in it.

    Args:
        engine: On a schema that is up to date, as `nas.store.connection.connect` gives it.

    Attributes:
        away: Whether the last transaction was given up because the database did not answer.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.away = False
        self._writing = engine.execution_options(begin="IMMEDIATE")
        server = engine.dialect.name != "sqlite"
        self.place = engine.url.render_as_string() if server else str(engine.url.database)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session that only reads; on SQLite it sees one state of the database throughout."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session whose changes are committed at the end, all or none."""
        with Session(self._writing) as session, session.begin():
            yield session


def insert(session: Session, table: type[Base], rows: Sequence[Row], replace: tuple[str, ...] = ()) -> int:
    """Insert rows and return how many the database took.

    A row that exists already is left as it is; where `replace` names the columns that identify a row, it is replaced.
    """
    if not rows:
        return 0
    dialect = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    new = dialect(cast(Table, table.__table__))
    if replace:
        changed = {name: new.excluded[name] for name in rows[0] if name not in replace}
        statement = new.on_conflict_do_update(index_elements=replace, set_=changed)
    else:
        statement = new.on_conflict_do_nothing()
    return session.connection().execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount


def insert_architectures(session: Session, archs: Iterable[ArchConfig]) -> None:
    """Insert architectures that are not known yet; in one order for all, so that two jobs cannot wait for each other."""
    rows = {arch.key: encoding.arch_row(arch) for arch in archs}
    insert(session, ArchitectureRow, [rows[key] for key in sorted(rows)])


def job_row(session: Session, job: JobId, lock: bool = False) -> JobRow:
    """Return the row of a job.

    Args:
        session: In a transaction.
        job: Its id.
        lock: Whether the row stays as it is until the transaction ends, but for what this one changes.

    Raises:
        NotFoundError: There is none with this id.
    """
    found = select(JobRow).where(JobRow.id == job)
    row = session.scalar(found.with_for_update(key_share=True) if lock else found)
    if row is None:
        raise NotFoundError(unknown_job(job))
    return row


def stage_row(session: Session, job: JobId, stage: Stage) -> StageRow:
    """Return the row of a job's stage.

    Raises:
        NotFoundError: There is no such job, or it has no such stage.
    """
    job_row(session, job)
    row = session.get(StageRow, (job, stage.value))
    if row is None:
        raise NotFoundError(
            f"job {job} has no stage {stage.value}; training.twins, quantization.search and objectives on latency add stages"
        )
    return row


def unknown_job(job: str) -> str:
    """Return the message of a job that is not known."""
    return f"a job is named by its id, the start of it, or latest: {job!r} is none; `nas jobs` lists them"


def now() -> datetime:
    """Return the moment, aware."""
    return datetime.now(UTC)


def clock(session: Session) -> datetime:
    """Return the moment by the database's own clock, aware: drivers on several machines are silent by one clock.

    A SQLite file has none; whoever opens it takes the machine's.
    """
    if session.get_bind().dialect.name != "postgresql":
        return now()
    moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)
