"""kill -9 at each step of an attempt, and SIGSTOP past the lease."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import uvloop
from structlog.testing import capture_logs
from yarl import URL

from callbacks.connection import Connection
from callbacks.dispatcher import Dispatcher, Limits
from callbacks.sender import Sender
from indexer.database import connect_pool
from indexer.secret import Vault
from tests import callback_bulk as bulk
from tests import callback_rows as rows
from tests.callback_runs import RULES, settled, true, until
from tests.conftest import SECRET_KEY
from tests.harness.blocked import blocked
from tests.harness.dispatcher import DispatcherProcess, dispatchers
from tests.harness.witness import Witness, witness

LIMITS: Final = Limits(
    lease_seconds=3.0, attempt_seconds=1.0, poll_seconds=0.1, beat_seconds=0.3, lost_seconds=1.5
)
SHORT: Final = Limits(lease_seconds=1.0, attempt_seconds=0.5, poll_seconds=0.05)
SLACK: Final = 2.0  # seconds: what the machine may add to a lease and a poll


@pytest.fixture
async def shop(pool: asyncpg.Pool, vault: Vault) -> AsyncIterator[Witness]:
    """A receiver with one endpoint, that of the account of callback_rows."""
    await bulk.world(pool, [rows.ACCOUNT])
    async with witness() as made:
        made.know(await bulk.endpoints(pool, vault, {rows.ACCOUNT: made.url(rows.ACCOUNT)}))
        yield made


@asynccontextmanager
async def dispatcher(folder: Path, dsn: str) -> AsyncIterator[DispatcherProcess]:
    async with dispatchers(1, folder, dsn, SECRET_KEY, LIMITS) as [process]:
        yield process


async def send_to(pool: asyncpg.Pool, url: str) -> None:
    await pool.execute("update endpoint set url = $1", url)


@pytest.mark.case(29)
@pytest.mark.pitfall("P119")
async def test_killed_after_the_claim_the_delivery_is_sent_once_after_the_lease(
    dsn: str, pool: asyncpg.Pool, shop: Witness, tmp_path: Path
) -> None:
    with blocked() as nowhere:
        await send_to(pool, f"http://127.0.0.1:{nowhere.port}/")
        async with dispatcher(tmp_path, dsn) as process:
            await rows.history(pool, 1, 2)
            await true(nowhere.knocked)
            await process.kill()
            killed = time.monotonic()
            await send_to(pool, shop.url(rows.ACCOUNT))
            await process.start()
            done = await settled(pool)
            waited = time.monotonic() - killed
    assert [each.sequence for each in shop.arrivals] == [1, 2]
    assert [(row["state"], row["attempts"]) for row in done] == [("delivered", 1)] * 2
    assert waited < LIMITS.lease_seconds + LIMITS.poll_seconds + SLACK


@pytest.mark.case(29)
@pytest.mark.pitfall("P119", "P120")
async def test_killed_after_the_post_the_delivery_is_sent_once_more_with_the_same_bytes(
    dsn: str, pool: asyncpg.Pool, shop: Witness, tmp_path: Path
) -> None:
    """A lock on the row holds the outcome up, so that it is killed between POST and commit."""
    shop.answering.clear()
    async with dispatcher(tmp_path, dsn) as process:
        await rows.history(pool, 1, 2)
        await true(lambda: shop.arrivals)
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("select from delivery for update")
            shop.answering.set()
            waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock'"
            await until(lambda: pool.fetch(waiting))
            await process.kill()
            killed = time.monotonic()
            for row in await pool.fetch(waiting):  # nor may the server finish it
                await pool.execute("select pg_terminate_backend($1, 5000)", row["pid"])
        await process.start()
        await settled(pool)
        waited = time.monotonic() - killed
    assert [each.sequence for each in shop.arrivals] == [1, 1, 2]
    first, again, _ = shop.arrivals
    assert (first.event, first.body) == (again.event, again.body)
    assert waited < LIMITS.lease_seconds + LIMITS.poll_seconds + SLACK


@pytest.mark.case(29)
@pytest.mark.pitfall("P119")
async def test_killed_after_the_commit_nothing_is_sent_again(
    dsn: str, pool: asyncpg.Pool, shop: Witness, tmp_path: Path
) -> None:
    async with dispatcher(tmp_path, dsn) as process:
        deposit = await rows.history(pool, 1, 1)
        await settled(pool)
        await process.kill()
        await process.start()
        await rows.event(pool, deposit, 2)
        await settled(pool)
    assert [each.sequence for each in shop.arrivals] == [1, 2]


@pytest.mark.case(30)
async def test_stopped_past_its_lease_its_outcome_is_refused(
    dsn: str, pool: asyncpg.Pool, shop: Witness, tmp_path: Path
) -> None:
    shop.answering.clear()
    (tmp_path / "other").mkdir()
    async with dispatcher(tmp_path, dsn) as stopped:
        await rows.history(pool, 1, 2)
        await true(lambda: shop.arrivals)
        stopped.signal(signal.SIGSTOP)
        shop.answering.set()
        async with dispatcher(tmp_path / "other", dsn) as other:
            done = await settled(pool)
            stopped.signal(signal.SIGCONT)
            await true(lambda: "outcome refused" in stopped.log)
            assert "outcome refused" not in other.log
    assert [each.sequence for each in shop.arrivals] == [1, 1, 2]
    assert [(row["state"], row["requests"]) for row in done] == [("delivered", 1)] * 2
    assert await pool.fetch("select * from delivery_done order by id") == done


@pytest.mark.case(30)
async def test_stopped_past_its_lease_it_sends_nothing_more(
    dsn: str, pool: asyncpg.Pool, shop: Witness, tmp_path: Path
) -> None:
    """It is stopped while it connects, and the connection is there when it goes on."""
    with blocked() as nowhere:
        await send_to(pool, f"http://127.0.0.1:{nowhere.port}/")
        async with dispatcher(tmp_path, dsn) as process:
            await rows.history(pool, 1, 1)
            await true(nowhere.knocked)
            process.signal(signal.SIGSTOP)
            admitted = asyncio.create_task(asyncio.to_thread(nowhere.admit))
            await asyncio.sleep(LIMITS.lease_seconds)
            await send_to(pool, shop.url(rows.ACCOUNT))
            process.signal(signal.SIGCONT)
            assert await admitted == b""
            await settled(pool)
    assert [each.sequence for each in shop.arrivals] == [1]


class StandingStill(Vault):
    """Opens its first secret only after the lease: as if the process had been stopped there."""

    stood = False

    def decrypt(self, *given: Any) -> bytes:
        if not self.stood:
            self.stood = True
            time.sleep(SHORT.lease_seconds)
        return super().decrypt(*given)


@pytest.mark.case(30)
async def test_attempts_that_begin_in_one_go_see_that_their_lease_ran_out_meanwhile(
    dsn: str, pool: asyncpg.Pool, vault: Vault
) -> None:
    """uvloop's clock, as production has it, stands still as long as callbacks run in a row."""

    async def work() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(2 * SHORT.lease_seconds, stop.set)
        theirs = await connect_pool(dsn)
        async with theirs:
            await Dispatcher(theirs, StandingStill(SECRET_KEY), RULES, SHORT).run(stop)

    def on_uvloop() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())

    accounts = [f"shop{n}" for n in range(8)]
    await bulk.world(pool, accounts)
    async with witness() as shops:
        shops.know(await bulk.endpoints(pool, vault, {name: shops.url(name) for name in accounts}))
        made = await bulk.deposits(pool, accounts, 0)
        await bulk.events(pool, [(name, 1) for name in made])
        with capture_logs() as logs:
            await asyncio.to_thread(on_uvloop)
    too_old = [line for line in logs if line["event"] == "lease too old to send"]
    assert len(too_old) == 7
    # Its own second claim sends all; the attempt that was being signed may be the one too many.
    assert len(await settled(pool)) == 8
    assert 8 <= len(shops.arrivals) <= 9


@pytest.mark.case(30)
async def test_an_attempt_that_stood_still_while_it_connected_sends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the connection's coming and its first use no timer of the loop has its turn."""
    loop, limit = asyncio.get_running_loop(), 0.3
    connect = Connection.connection_made

    def connection_made(connection: Connection, transport: asyncio.BaseTransport) -> None:
        loop.call_soon(time.sleep, limit)
        connect(connection, transport)

    received: asyncio.Future[bytes] = loop.create_future()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.read())
        writer.close()

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    async with server, Sender(RULES, limit) as sender:
        port = server.sockets[0].getsockname()[1]
        answer = await sender.post(URL(f"http://127.0.0.1:{port}/"), {}, b"{}")
    assert answer.error == "timeout"
    assert await received == b""
