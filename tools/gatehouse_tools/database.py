"""Where a collector keeps what it has verified: SQLite or PostgreSQL, through SQLAlchemy (docs/collect.md).

Storing is idempotent: a message that comes again changes nothing. A report is known by device, key and counter, an
entry of a journal by all of it, so that two entries of one number, which is an alarm, are both kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

from . import journal
from .errors import GatehouseError, UsageError
from .ui import printable

BUSY_S = 30.0  # another collector's transaction takes some milliseconds
CONNECT_S = 10

_tables = sa.MetaData()
REPORTS = sa.Table(
    "reports",
    _tables,
    sa.Column("device", sa.String(32), primary_key=True),
    sa.Column("key", sa.String(16), primary_key=True),  # which report key: a new owner's counters begin anew
    sa.Column("boots", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("received", sa.Double, nullable=False, index=True),  # Unix seconds of the collector's clock
    sa.Column("time", sa.BigInteger),  # of the device's; null while it had none
    sa.Column("version", sa.Text),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("degraded", sa.Text, nullable=False),  # reasons, JSON
    sa.Column("alarm", sa.Text),  # why this cannot be by the device that sent the one before; null for all is well
    sa.Column("claims", sa.Text, nullable=False),  # in words, JSON
    sa.Column("message", sa.LargeBinary, nullable=False),  # as it came: the evidence
    sa.Column("digest", sa.LargeBinary, nullable=False),  # SHA-256 of it
)
JOURNAL = sa.Table(
    "journal",
    _tables,
    sa.Column("device", sa.String(32), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tag", sa.LargeBinary(16), primary_key=True),
    # In the key, too: who knows a tag (reports tell it) must not keep the honest entry out with one that is not.
    sa.Column("before", sa.LargeBinary(16), primary_key=True),  # the tag of the entry before, by the message
    sa.Column("entry", sa.LargeBinary, primary_key=True),  # CBOR, as it came
    sa.Column("boots", sa.BigInteger, nullable=False),  # boot count of the sending
    sa.Column("received", sa.Double, nullable=False),
)
SUMMARIES = sa.Table(
    "summaries",
    _tables,
    sa.Column("device", sa.String(32), primary_key=True),
    sa.Column("received", sa.Double, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),  # JSON, unsigned: no evidence of anything
)
REFUSALS = sa.Table(
    "refusals",
    _tables,
    sa.Column("device", sa.String(32), primary_key=True),  # by the topic
    sa.Column("reason", sa.String(16), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("first", sa.Double, nullable=False),
    sa.Column("last", sa.Double, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("message", sa.LargeBinary, nullable=False),  # the last one
)
_COUNTER = ("device", "key", "boots", "number")


@dataclass
class Batch:
    """Rows to store in one transaction, as dicts of the tables' columns. refusals and summaries: one a key."""

    reports: list[dict[str, Any]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)  # device: number up to which its broker took the journal

    def refuse(self, device: str, reason: str, detail: str, message: bytes, received: float) -> None:
        """Count a message that is not stored."""
        row = self.refusals.setdefault(
            (device, reason), {"device": device, "reason": reason, "count": 0, "first": received}
        )
        row |= {"count": row["count"] + 1, "last": received, "detail": printable(detail), "message": message}


class Database:
    """An open database. `new` and `known` count the reports stored and those that were there already."""

    def __init__(self, url: str) -> None:
        """Open it, and make tables that are not there. UsageError for a wrong URL, GatehouseError("database")."""
        try:
            parsed = sa.make_url(url)
        except ArgumentError:
            raise UsageError(f"{url!r} is no database URL: sqlite:///FILE or postgresql+psycopg://HOST/NAME") from None
        kind = parsed.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise UsageError(f"{kind} is none of sqlite, postgresql")
        self.shown = parsed.render_as_string(hide_password=True)
        self.new = self.known = 0
        limit: dict[str, Any] = {"timeout": BUSY_S} if kind == "sqlite" else {"connect_timeout": CONNECT_S}
        try:
            self._engine = sa.create_engine(parsed, connect_args=limit, pool_pre_ping=kind != "sqlite")
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            way = "in Gatehouse's clone: .venv/bin/pip install -e '.[postgresql]'"
            told = f"{self.shown} needs a package that is not here ({error}); {way}"
            raise GatehouseError(told, "database") from None
        self._insert: Any = sqlite.insert if kind == "sqlite" else postgresql.insert
        if kind == "sqlite":
            sa.event.listen(self._engine, "connect", _own_transactions)
            sa.event.listen(self._engine, "begin", _begin_immediately)
        with self._told(), self._engine.begin() as connection:
            if kind == "postgresql":  # two that make the tables at once would fail on each other
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(1195460936)"))
            _tables.create_all(connection)

    def store(self, batch: Batch) -> None:
        """Store all of a batch, or nothing of it. Two reports with one counter are told in `refusals`.

        Unavailable when it may work later, GatehouseError("database") when it will not.
        """
        with self._told(), self._engine.begin() as connection:
            new = self._reports(connection, batch)
            if batch.journal:
                connection.execute(self._insert(JOURNAL).on_conflict_do_nothing(), batch.journal)
            if batch.summaries:
                self._newest(connection, list(batch.summaries.values()))
            for row in batch.refusals.values():
                self._refusal(connection, row)
        self.new += new
        self.known += len(batch.reports) - new

    def newest(self, device: str, key: str) -> bytes | None:
        """The message of the report with the highest counter that is no alarm."""
        asked = (
            sa.select(REPORTS.c.message)
            .where(REPORTS.c.device == device, REPORTS.c.key == key, REPORTS.c.alarm.is_(None))
            .order_by(REPORTS.c.boots.desc(), REPORTS.c.number.desc())
            .limit(1)
        )
        with self._told(), self._engine.connect() as connection:
            return connection.execute(asked).scalar_one_or_none()

    def lacks(self, device: str, first: int, last: int) -> list[int]:
        """The numbers from first to last of which no journal entry of this device is stored."""
        number = JOURNAL.c.number
        asked = sa.select(number).where(JOURNAL.c.device == device, number >= first, number <= last)
        with self._told(), self._engine.connect() as connection:
            stored = set(connection.execute(asked).scalars())
        return [one for one in range(first, last + 1) if one not in stored]

    def entries(self, device: str, first: int, last: int, most: int) -> list[journal.Record]:
        """At most `most` journal entries of this device with the numbers from first to last, forged ones among them."""
        columns = (JOURNAL.c.number, JOURNAL.c.entry, JOURNAL.c.tag, JOURNAL.c.before)
        asked = sa.select(*columns).where(JOURNAL.c.device == device, columns[0] >= first, columns[0] <= last)
        asked = asked.order_by(columns[0]).limit(most)
        with self._told(), self._engine.connect() as connection:
            return [journal.Record(*row) for row in connection.execute(asked)]

    def close(self) -> None:
        """Close it."""
        self._engine.dispose()

    def _reports(self, connection: sa.Connection, batch: Batch) -> int:
        if not batch.reports:
            return 0
        put = self._insert(REPORTS).on_conflict_do_nothing()
        done = connection.execute(put, batch.reports, execution_options={"preserve_rowcount": True})
        if done.rowcount != len(batch.reports):
            self._compare(connection, batch)
        return int(done.rowcount)

    def _compare(self, connection: sa.Connection, batch: Batch) -> None:
        """Some were there already: the same ones, or others with their counters."""
        columns = [REPORTS.c[name] for name in _COUNTER]
        for row in batch.reports:
            same = [column == row[column.name] for column in columns]
            found = connection.execute(sa.select(REPORTS.c.digest).where(*same)).scalar_one()
            if found != row["digest"]:
                told = f"two different reports have the counter {row['boots']}.{row['number']}"
                batch.refuse(row["device"], "counter", told, row["message"], row["received"])

    def _newest(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        put = self._insert(SUMMARIES)
        newer = {name: put.excluded[name] for name in ("received", "payload")}
        connection.execute(
            put.on_conflict_do_update(
                index_elements=["device"], set_=newer, where=SUMMARIES.c.received <= put.excluded.received
            ),
            rows,
        )

    def _refusal(self, connection: sa.Connection, row: dict[str, Any]) -> None:
        put = self._insert(REFUSALS).values(row)
        changed = {name: put.excluded[name] for name in ("last", "detail", "message")}
        changed["count"] = REFUSALS.c.count + put.excluded["count"]
        connection.execute(put.on_conflict_do_update(index_elements=["device", "reason"], set_=changed))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the database in one line."""
        try:
            yield
        except OperationalError as error:
            raise Unavailable(f"{self.shown}: {_line(error)}", "database") from None
        except SQLAlchemyError as error:
            raise GatehouseError(f"{self.shown}: {_line(error)}", "database") from None


class Unavailable(GatehouseError):
    """The database is not there or has no room: it may work later."""


def _own_transactions(connection: Any, _record: Any) -> None:
    """SQLite: begin where we say so, and let readers read while one collector writes."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # an acknowledged message has survived a power cut


def _begin_immediately(connection: sa.Connection) -> None:
    """SQLite: wait for others here, where nothing is lost by it, and not in the middle."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _line(error: SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split())
