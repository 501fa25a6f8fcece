"""The database on both PostgreSQLs: exact amounts, limits, failures by name, the schema's steps."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from indexer import database
from indexer.database import (
    SCHEMA_FILE,
    DatabaseUnavailable,
    Step,
    connect_pool,
    migrate,
    read_steps,
    unavailable_database,
)
from indexer.model import MAX_UNITS, Impossible, Refused
from indexer.secret import Vault
from tests.conftest import SERVERS, Server


@pytest.fixture(params=list(SERVERS))
def server_name(request: pytest.FixtureRequest) -> str:
    name = request.param
    assert isinstance(name, str)
    return name


# ------------------------------------------------------------------ amounts


@pytest.mark.pitfall("P42", "P97")
async def test_amounts_are_exact_to_the_last_unit(pool: asyncpg.Pool) -> None:
    values = [0, 1, 10**18, 10**40, 2**63, MAX_UNITS - 1, MAX_UNITS, 10**78 - 1]
    assert await pool.fetchval("select $1::numeric(78, 0)[]", values) == values
    rows = await pool.fetch("select unit from unnest($1::numeric(78, 0)[]) unit", values)
    assert [row["unit"] for row in rows] == values
    assert all(type(row["unit"]) is int for row in rows)
    assert await pool.fetchval("select $1::numeric(78, 0)", MAX_UNITS) == MAX_UNITS
    total = await pool.fetchval("select sum(u) from unnest($1::numeric(78, 0)[]) u", values)
    assert total == sum(values)


@pytest.mark.pitfall("P42")
@pytest.mark.parametrize("value", [True, 1.0, 1.5, "1", Decimal(1), b"1", [1]])
async def test_nothing_but_an_int_is_taken_for_an_amount(pool: asyncpg.Pool, value: Any) -> None:
    with pytest.raises(asyncpg.DataError, match="an amount must be an int"):
        await pool.fetchval("select $1::numeric(78, 0)", value)
    with pytest.raises(asyncpg.DataError):
        await pool.fetchval("select $1::numeric(78, 0)[]", [1, value])


async def test_a_fraction_in_the_database_is_not_rounded_to_an_amount(pool: asyncpg.Pool) -> None:
    with pytest.raises(Impossible, match=r"1\.5"):
        await pool.fetchval("select 1.5")
    with pytest.raises(Impossible, match="NaN"):
        await pool.fetchval("select 'NaN'::numeric")


async def test_json_comes_back_as_it_went(pool: asyncpg.Pool) -> None:
    value = {"a": [1, None, "é"], "b": {"c": True}}
    assert await pool.fetchval("select $1::jsonb", value) == value
    assert await pool.fetchval("select $1::jsonb[]", [value, {}]) == [value, {}]


# ------------------------------------------------------------------ limits


async def test_connections_carry_their_limits(pool: asyncpg.Pool) -> None:
    settings = {
        name: await pool.fetchval("select current_setting($1)", name)
        for name in (
            "application_name", "statement_timeout", "idle_in_transaction_session_timeout",
            "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "timezone",
        )
    }  # fmt: skip
    assert settings == {
        "application_name": f"depositd {database.PROCESS}",
        "statement_timeout": "1min",
        "idle_in_transaction_session_timeout": "6s",
        "tcp_keepalives_idle": "1",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "4",
        "timezone": "UTC",
    }


async def test_the_pool_is_not_larger_than_asked(dsn: str) -> None:
    pool = await connect_pool(dsn, size=2)
    async with pool.acquire(), pool.acquire():
        with pytest.raises(TimeoutError):
            await pool.acquire(timeout=0.05)
    await pool.close()


# ------------------------------------------------------------------ failures


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await connect_pool("postgresql://depositd:hunter2@127.0.0.1:1/depositd")
    assert str(caught.value).startswith("the database is out of reach: ")
    assert "hunter2" not in str(caught.value)


async def test_a_host_without_address_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: Any, **__: Any) -> Any:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", unknown)
    with pytest.raises(DatabaseUnavailable, match="Name or service not known"):
        await connect_pool("postgresql://u:p@nowhere.invalid/depositd")


async def test_a_wrong_password_is_refused(dsn: str) -> None:
    user, _, rest = dsn.partition("//depositd:")
    wrong = f"{user}//depositd:hunter2@{rest.partition('@')[2]}"
    with pytest.raises(Refused, match="password authentication failed") as caught:
        await connect_pool(wrong)
    assert "hunter2" not in str(caught.value)


async def test_an_unknown_database_is_refused(dsn: str) -> None:
    with pytest.raises(Refused, match="does not exist"):
        await connect_pool(dsn.replace("/test_", "/absent_"))


@pytest.mark.parametrize(
    "wrong", ["mysql://user:hunter2@h/db", "postgresql://user:hunter2@h:hunter2/db"]
)
async def test_a_url_that_is_none_is_refused_without_showing_it(wrong: str) -> None:
    with pytest.raises(Refused, match="is not a URL") as caught:
        await connect_pool(wrong)
    assert "hunter2" not in str(caught.value)


async def test_a_connection_that_ends_is_unavailable(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        pid = connection.get_server_pid()
        await pool.execute("select pg_terminate_backend($1)", pid)
        with pytest.raises(DatabaseUnavailable), unavailable_database():
            await connection.fetchval("select 1")
        with pytest.raises(DatabaseUnavailable), unavailable_database():
            await connection.fetchval("select 1")
    assert await pool.fetchval("select 1") == 1


async def test_a_statement_that_takes_too_long_is_unavailable(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("set statement_timeout = 20")
        with pytest.raises(DatabaseUnavailable, match="timeout"), unavailable_database():
            await connection.execute("select pg_sleep(5)")


async def test_a_mistake_of_ours_is_not_taken_for_an_absent_database(pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.PostgresSyntaxError), unavailable_database():
        await pool.execute("selec 1")
    with pytest.raises(asyncpg.InterfaceError), unavailable_database():
        await pool.execute("select $1", 1, 2)


# ------------------------------------------------------------------ the schema


async def connected(dsn: str) -> asyncpg.Connection:
    return await asyncpg.connect(dsn)


def steps() -> list[Step]:
    return read_steps(SCHEMA_FILE.read_text(encoding="utf-8"))


async def test_every_step_applies_after_the_one_before_it(empty_dsn: str, vault: Vault) -> None:
    """As each installation of an older version will meet it."""
    connection = await connected(empty_dsn)
    for count in range(1, len(steps()) + 1):
        await migrate(connection, vault, steps()[:count])
        rows = await connection.fetch("select number, digest from schema_step order by number")
        assert [(row["number"], row["digest"]) for row in rows] == [
            (step.number, step.digest) for step in steps()[:count]
        ]
    await connection.close()


async def test_starters_at_once_apply_each_step_once(empty_dsn: str, vault: Vault) -> None:
    connections = [await connected(empty_dsn) for _ in range(4)]
    await asyncio.gather(*(migrate(connection, vault) for connection in connections))
    applied = await connections[0].fetchval("select count(*) from schema_step")
    assert applied == len(steps())
    for connection in connections:
        await connection.close()


async def test_a_step_that_fails_leaves_nothing_behind(empty_dsn: str, vault: Vault) -> None:
    connection = await connected(empty_dsn)
    more = [*steps(), Step(len(steps()) + 1, "create table half (a int); select 1 / 0;")]
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection, vault, more)
    assert await connection.fetchval("select to_regclass('half')") is None
    await migrate(connection, vault)
    more[-1] = Step(more[-1].number, "create table half (a int)")
    await migrate(connection, vault, more)
    assert await connection.fetchval("select to_regclass('half')") == "half"
    await connection.close()


async def test_the_lock_is_given_back_after_a_failure(empty_dsn: str, vault: Vault) -> None:
    first, second = await connected(empty_dsn), await connected(empty_dsn)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(first, vault, [Step(1, "select 1 / 0")])
    async with asyncio.timeout(10):
        await migrate(second, vault)
    await first.close()
    await second.close()


async def test_a_newer_database_is_refused(dsn: str, vault: Vault) -> None:
    connection = await connected(dsn)
    await migrate(connection, vault, [*steps(), Step(len(steps()) + 1, "select 1")])
    with pytest.raises(Refused, match=f"at step {len(steps()) + 1} and this depositd knows"):
        await migrate(connection, vault)
    await connection.close()


async def test_a_step_that_changed_is_refused(dsn: str, vault: Vault) -> None:
    connection = await connected(dsn)
    changed = [*steps()]
    changed[0] = Step(1, changed[0].sql + "\ncreate table more (a int);")
    with pytest.raises(Refused, match="step 1 of the database's schema"):
        await migrate(connection, vault, changed)
    await connection.close()


async def test_a_comment_of_a_step_may_change(dsn: str, vault: Vault) -> None:
    connection = await connected(dsn)
    changed = [Step(step.number, f"\n-- said better\n  {step.sql}") for step in steps()]
    await migrate(connection, vault, changed)
    await connection.close()


async def test_another_secret_key_is_refused(dsn: str, vault: Vault) -> None:
    connection = await connected(dsn)
    with pytest.raises(Refused, match="secret_key is not the one"):
        await migrate(connection, Vault("a completely different one"))
    await migrate(connection, vault)
    assert await connection.fetchval("select count(*) from installation") == 1
    await connection.close()


async def test_time_comes_from_the_clock_that_a_simulation_may_set(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        first = await connection.fetchval("select clock()")
        assert await connection.fetchval("select clock()") > first
        await connection.execute("set depositd.clock = '2020-01-01T00:00:00Z'")
        assert (await connection.fetchval("select clock()")).year == 2020


def test_no_statement_takes_the_time_of_its_transaction() -> None:
    text = " ".join(step.sql for step in steps()).lower()
    assert "now()" not in text
    assert "current_timestamp" not in text


@pytest.mark.parametrize("text", ["", "select 1", "-- step 2\nselect 1", "-- step 1\n-- step 3\n"])
def test_steps_are_numbered_from_one(text: str) -> None:
    with pytest.raises(Impossible, match="numbered"):
        read_steps(text)


async def test_the_server_is_the_one_that_was_asked_for(server: Server, server_name: str) -> None:
    connection = await connected(server.dsn)
    major = connection.get_server_version().major
    await connection.close()
    assert (major == 15) == (server_name == "debian")


def test_limits_leave_the_server_time_to_end_a_statement_itself() -> None:
    assert database.COMMAND_SECONDS > database.STATEMENT_SECONDS
