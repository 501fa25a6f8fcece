"""PostgreSQL: the pool with its limits and codecs, its failures by name, and the schema's steps."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import orjson
import structlog

from indexer.model import Impossible, Refused, Unavailable
from indexer.secret import Vault

POOL_CONNECTIONS: Final = 10
CONNECT_SECONDS: Final = 10.0
STATEMENT_SECONDS: Final = 60  # the server ends a statement then
STATEMENT_ROWS: Final = 5_000  # that one takes at most, of however many: it has a time limit
COMMAND_SECONDS: Final = 70.0  # and we give up on a server that does not answer at all
STEP_SECONDS: Final = 86_400.0  # a step of the schema may rewrite a large table
# A transaction whose process hangs, or is cut off, holds its locks no longer than its lease
# (lease.LEASE): else whoever leads next waits for the cursor.
IDLE_TRANSACTION_SECONDS: Final = 6
# The same where it was cut off in the middle of a statement, which is not idle: the server asks a
# client that says nothing so often whether it is there.
KEEPALIVE_SECONDS: Final = 1
KEEPALIVES: Final = 4  # without an answer, before it takes the client for gone
HOST_CHARS: Final = 40  # of the host's name: PostgreSQL cuts an application's off after 63
# What this process is called in `lease` and `depositd status`.
PROCESS: Final = f"{socket.gethostname()[:HOST_CHARS]}:{os.getpid()}"
SCHEMA_FILE: Final = Path(__file__).with_name("schema.sql")  # a link to the one at the top
SCHEMA_LOCK: Final = 0x6465706F  # advisory, held while steps are applied: "depo"

# What every connection is made with.
CONNECTION: Final[Mapping[str, Any]] = {
    "timeout": CONNECT_SECONDS,
    "command_timeout": COMMAND_SECONDS,
    "server_settings": {
        "application_name": f"depositd {PROCESS}",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_SECONDS}s",
        "tcp_keepalives_idle": f"{KEEPALIVE_SECONDS}",
        "tcp_keepalives_interval": f"{KEEPALIVE_SECONDS}",
        "tcp_keepalives_count": f"{KEEPALIVES}",
        "timezone": "UTC",
        "jit": "off",  # our statements are short; compiling them costs more than they do
    },
}

# Failures after which the same statement may succeed: the server or the way to it was not there, or
# it was busy with what has passed by then.
PASSING: Final = (
    OSError,  # timeouts are among them
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,  # too many connections, disk or memory full
    asyncpg.OperatorInterventionError,  # starting, shutting down, statement timeout
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, until it is promoted
)

# asyncpg's words for a connection that the server ended, before and after it noticed that itself.
LOST_CONNECTION: Final = re.compile(
    "connection (is|was|has been) (closed|terminated|released back)|cannot switch to state"
)

T = TypeVar("T")

log = structlog.get_logger()

# It logs a traceback for each failure to open spare connections; whoever needs one says so himself.
logging.getLogger("asyncpg.pool").setLevel(logging.CRITICAL)


class DatabaseUnavailable(Unavailable):
    """PostgreSQL is out of reach, or was for a moment."""


@contextmanager
def unavailable_database() -> Iterator[None]:
    """Raise what may pass as DatabaseUnavailable, without address or password."""
    try:
        yield
    except PASSING as problem:
        raise DatabaseUnavailable(f"the database is out of reach: {_short(problem)}") from problem
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as problem:
        if not LOST_CONNECTION.search(str(problem)):
            raise  # misuse of the client: a bug
        raise DatabaseUnavailable(
            "the database is out of reach: it closed the connection"
        ) from problem


def parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Rows by as many as one statement takes.

    Between two statements the caller prepares no more than these: a transaction that says nothing
    for too long is taken for one whose process hangs.
    """
    for at in range(0, len(rows), STATEMENT_ROWS):
        yield rows[at : at + STATEMENT_ROWS]


def _short(problem: BaseException) -> str:
    if isinstance(problem, asyncpg.PostgresError):
        return str(problem.args[0] if problem.args else type(problem).__name__)
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    return getattr(problem, "strerror", None) or str(problem) or type(problem).__name__


async def connect_pool(dsn: str, *, size: int = POOL_CONNECTIONS) -> asyncpg.Pool:
    """A pool whose connections know our types and limits.

    Raises DatabaseUnavailable where no server answers, Refused where it does not let us in.
    """
    with _refused_login(), unavailable_database():
        return await asyncpg.create_pool(dsn, min_size=1, max_size=size, init=prepare, **CONNECTION)


def lead(pool: asyncpg.Pool, dsn: str) -> None:
    """Make the pool's next connections to `dsn`: the same server may have another port now."""
    pool.set_connect_args(dsn, **CONNECTION)


@contextmanager
def _refused_login() -> Iterator[None]:
    try:
        yield
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.InsufficientPrivilegeError,
    ) as problem:
        raise Refused(f"the database does not let us in: {_short(problem)}") from None
    except (asyncpg.ClientConfigurationError, ValueError):
        raise Refused("`database` is not a URL that PostgreSQL's clients understand") from None


async def hang_up(pool: asyncpg.Pool, process: str) -> int:
    """End a hanging process's connections at which the server waits; returns how many.

    A transaction can wait for its client without being idle: between a statement that is being
    prepared and its values there is no limit but the statement's.
    """
    ended: int = await pool.fetchval(
        """
        select count(pg_terminate_backend(pid)) from pg_stat_activity
         where application_name = 'depositd ' || $1
           and state <> 'idle' and wait_event = 'ClientRead'
        """,
        process,
    )
    return ended


async def prepare(connection: asyncpg.Connection) -> None:
    """Teach a connection our types: numeric is int and nothing else, jsonb is orjson's."""
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", encoder=_units_text, decoder=_units, format="text"
    )
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
        format="text",
    )


def _units_text(value: object) -> str:
    # numeric(78,0) would round a fraction silently, so nothing that can have one gets that far.
    if type(value) is not int:
        raise Impossible(f"an amount must be an int, not {type(value).__name__}")
    return str(value)


def _units(text: str) -> int:
    if not re.fullmatch(r"-?\d+", text, re.ASCII):
        raise Impossible(f"the database holds the amount {text}, which is no whole number")
    return int(text)


# ---------------------------------------------------------------------------- schema


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered part of schema.sql."""

    number: int
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of what it does: without comments and layout."""
        plain = " ".join(re.sub(r"--[^\n]*", "", self.sql).split())
        return hashlib.sha256(plain.encode()).hexdigest()


def read_steps(text: str) -> list[Step]:
    """The steps of a schema file, which are numbered 1, 2, 3 …"""
    _, *parts = re.split(r"^-- step (\d+)$", text, flags=re.MULTILINE)
    steps = [Step(int(n), sql) for n, sql in zip(parts[::2], parts[1::2], strict=True)]
    if not steps or [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise Impossible("the steps of schema.sql are not numbered 1, 2, 3 …")
    return steps


SCHEMA_STEP: Final = """
create table if not exists schema_step (
    number      integer primary key check (number > 0),
    digest      text not null,
    applied_at  timestamptz not null default clock_timestamp()
)
"""


async def migrate(
    connection: asyncpg.Connection, vault: Vault, steps: list[Step] | None = None
) -> None:
    """Bring the database to this program's schema and check that `vault` is the one it knows.

    Safe to call from many processes at once. Raises Refused for a database that is newer, whose
    steps differ from ours, or whose secrets another secret_key encrypts.
    """
    if steps is None:
        steps = read_steps(SCHEMA_FILE.read_text(encoding="utf-8"))
    with unavailable_database():
        await connection.execute("select pg_advisory_lock($1)", SCHEMA_LOCK)
        try:
            await _apply(connection, steps)
            await _check_key(connection, vault)
        finally:
            if not connection.is_closed():
                await connection.execute("select pg_advisory_unlock($1)", SCHEMA_LOCK)


async def _apply(connection: asyncpg.Connection, steps: list[Step]) -> None:
    rows = []
    if await connection.fetchval("select to_regclass('schema_step') is not null"):
        rows = await connection.fetch("select number, digest from schema_step")
    applied = {row["number"]: row["digest"] for row in rows}
    newest = max(applied, default=0)
    if newest > len(steps):
        raise Refused(
            f"the database's schema is at step {newest} and this depositd knows {len(steps)}: "
            f"use the newer depositd that it belongs to"
        )
    for step in steps:
        if step.number not in applied:
            async with connection.transaction():
                await connection.execute("set local statement_timeout = 0")
                if step.number == 1:
                    await connection.execute(SCHEMA_STEP)
                await connection.execute(step.sql, timeout=STEP_SECONDS)
                await connection.execute(
                    "insert into schema_step (number, digest) values ($1, $2)",
                    step.number,
                    step.digest,
                )
            log.info("schema_step", number=step.number)
        elif applied[step.number] != step.digest:
            raise Refused(
                f"step {step.number} of the database's schema is not the one of this depositd: "
                f"the database was made by another version"
            )


async def has_key(connection: asyncpg.Connection) -> bool:
    """Whether this database knows which secret_key is its own."""
    if await connection.fetchval("select to_regclass('installation') is null"):
        return False
    return bool(await connection.fetchval("select exists (select from installation)"))


async def _check_key(connection: asyncpg.Connection, vault: Vault) -> None:
    await connection.execute(
        "insert into installation (key_fingerprint) values ($1) on conflict do nothing",
        vault.fingerprint,
    )
    known = await connection.fetchval("select key_fingerprint from installation")
    if not hmac.compare_digest(known, vault.fingerprint):
        raise Refused("secret_key is not the one that the database's secrets are encrypted with")
