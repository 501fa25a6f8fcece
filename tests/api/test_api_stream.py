"""The feed over a WebSocket: every event once and in order, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Any, Final

import aiohttp
import asyncpg
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from indexer import bell
from indexer.api import stream
from indexer.api.errors import Problem
from indexer.api.events import read_feed
from indexer.model import Impossible
from tests import callback_rows as rows
from tests.api.world import Caller, World
from tests.api.world import address as registered

ACCOUNT: Final = "carol"
SECONDS: Final = 20.0  # for anything to arrive
QUIET: Final = 0.3  # seconds in which nothing more should come
WRITERS: Final = 5
TRANSACTIONS: Final = 20  # of each writer
FORGOTTEN: Final = 150  # events, one after another
EVENT_BYTES: Final = 65_000
EVENTS_BEYOND_BUFFERS: Final = 200  # of EVENT_BYTES: more than loopback's sockets hold


@pytest.fixture
async def carol(world: World) -> Caller:
    """An account with a key and without endpoints, networks' rows beside it."""
    await rows.world(world.pool, ACCOUNT)
    return world.caller(await world.new_key(ACCOUNT, "read"))


async def history(pool: asyncpg.Pool, number: int, events: int) -> None:
    await rows.history(pool, number, events, ACCOUNT)


def connect(world: World, caller: Caller, **params: Any) -> Any:
    return world.session.ws_connect(
        f"{caller.base}/v1/stream", params=params, headers=caller.headers
    )


async def take(following: ClientWebSocketResponse, number: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(SECONDS):
        return [json.loads(await following.receive_str()) for _ in range(number)]


async def nothing_more(following: ClientWebSocketResponse) -> None:
    with pytest.raises(TimeoutError):
        await following.receive(QUIET)


async def end(following: ClientWebSocketResponse) -> tuple[int | None, str]:
    """The code and text of the close frame that comes next."""
    message = await following.receive(SECONDS)
    assert message.type is WSMsgType.CLOSE, message
    return message.data, message.extra or ""


async def refused(world: World, caller: Caller, **params: Any) -> int:
    """The status of a handshake that must fail."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await connect(world, caller, **params)
    return refusal.value.status


# ---------------------------------------------------------------------------- what is sent


async def test_its_items_are_those_of_the_feed_and_of_the_document(world: World) -> None:
    await world.alice.register("ethereum", registered(1))
    await world.activate("ethereum")
    await world.pay(1, registered(1), 10**18)
    async with connect(world, world.alice) as following:
        kept = await take(following, 1)
        await world.pay(2, registered(1), 2**255)
        live = await take(following, 1)
        await nothing_more(following)
    assert kept + live == (await world.alice.get("/v1/events")).body["items"]
    for item in kept + live:
        world.documented.check("GET", "/v1/stream", 101, item)


async def test_it_sends_what_is_kept_and_then_what_comes(world: World, carol: Caller) -> None:
    await history(world.pool, 1, 3)
    async with connect(world, carol) as following:
        await take(following, 3)
        await history(world.pool, 2, 2)
        assert [item["position"] for item in await take(following, 2)] == [4, 5]
        await nothing_more(following)


async def test_it_goes_on_after_a_position(world: World, carol: Caller) -> None:
    await history(world.pool, 1, 5)
    async with connect(world, carol, after=3) as following:
        assert [item["position"] for item in await take(following, 2)] == [4, 5]
    async with connect(world, carol, after=5) as following:
        await nothing_more(following)


async def test_a_long_feed_comes_page_by_page(world: World, carol: Caller) -> None:
    await history(world.pool, 1, 2 * stream.PAGE + 7)
    async with connect(world, carol) as following:
        items = await take(following, 2 * stream.PAGE + 7)
    assert [item["position"] for item in items] == list(range(1, len(items) + 1))


async def test_nobody_sees_another_accounts_events(world: World, carol: Caller) -> None:
    await rows.world(world.pool, "dave")
    dave = world.caller(await world.new_key("dave", "read"))
    async with (
        connect(world, carol) as mine,
        connect(world, dave) as his,
        connect(world, world.admin, account=ACCOUNT) as operator,
    ):
        await history(world.pool, 1, 1)
        await rows.history(world.pool, 2, 1, "dave")
        (my_event,) = await take(mine, 1)
        (his_event,) = await take(his, 1)
        assert await take(operator, 1) == [my_event]
        await nothing_more(mine)
        await nothing_more(his)
    assert (my_event["position"], his_event["position"]) == (1, 1)
    assert my_event["id"] != his_event["id"]


async def test_events_without_endpoints_ring_the_bell(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "POLL_SECONDS", 3600.0)
    async with connect(world, carol) as following:
        for number in range(3):
            await asyncio.sleep(QUIET)
            await history(world.pool, number, 1)
            await take(following, 1)


@pytest.mark.case(41)
async def test_the_poll_finds_what_the_bell_did_not_say(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(bell, "listen", deaf)
    monkeypatch.setattr(stream, "POLL_SECONDS", 0.1)
    async with connect(world, carol) as following:
        await asyncio.sleep(QUIET)
        await history(world.pool, 1, 1)
        await take(following, 1)


async def test_it_outlives_lost_connections_to_the_database(world: World, carol: Caller) -> None:
    async with connect(world, carol) as following:
        await history(world.pool, 1, 1)
        await take(following, 1)
        await world.pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        numbers = count(2)
        await again(lambda: history(world.pool, next(numbers), 1))
        assert [item["position"] for item in await take(following, 1)] == [2]


async def again(act: Callable[[], Awaitable[None]]) -> None:
    """The pool has dead connections, which it learns by using them."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await act()
            except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError):
                continue


# ---------------------------------------------------------------------------- all of it, in order


async def write(pool: asyncpg.Pool, number: int, rng: Random) -> None:
    """Transactions of some events of a deposit; some take long, some are rolled back."""
    deposit = await rows.deposit(pool, number, account=ACCOUNT)
    sequence = 0
    for _ in range(TRANSACTIONS):
        steps = rng.randint(1, 3)
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            for step in range(1, steps + 1):
                await rows.event(connection, deposit, sequence + step, account=ACCOUNT)
            await asyncio.sleep(rng.choice((0, 0, 0.002, 0.02)))
            if rng.random() < 0.2:
                await transaction.rollback()
            else:
                await transaction.commit()
                sequence += steps


async def follow(world: World, caller: Caller, rng: Random, enough: asyncio.Event) -> list[str]:
    """The ids that a client sees who comes and goes, and goes on where it was."""
    seen: list[str] = []
    while not enough.is_set():
        async with connect(world, caller, after=len(seen)) as following:
            for _ in range(rng.randint(1, 40)):
                try:
                    item = json.loads(await following.receive_str(timeout=QUIET))
                except TimeoutError:
                    break
                assert item["position"] == len(seen) + 1
                seen.append(item["id"])
            if rng.random() < 0.3:  # cut off, not closed
                following._response.close()
    return seen


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_missed_doubled_or_out_of_order_while_many_write(
    world: World, carol: Caller, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE", 7)
    rng = Random(seed)
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        readers = [
            tasks.create_task(follow(world, carol, Random(rng.random()), enough)) for _ in range(4)
        ]
        async with connect(world, carol) as following:
            async with asyncio.TaskGroup() as writing:
                for number in range(WRITERS):
                    writing.create_task(write(world.pool, number, Random(rng.random())))
            written = await world.pool.fetch(
                "select position, id from event where account = $1 order by position", ACCOUNT
            )
            items = await take(following, len(written))
            await nothing_more(following)
        await asyncio.sleep(2 * QUIET)
        enough.set()
    assert [row["position"] for row in written] == list(range(1, len(written) + 1))
    ids = [row["id"] for row in written]
    assert [item["id"] for item in items] == ids
    for reader in readers:
        assert reader.result() == ids


async def test_what_is_forgotten_meanwhile_is_refused_and_never_skipped(
    world: World, carol: Caller
) -> None:
    await history(world.pool, 1, FORGOTTEN)
    await world.pool.execute("delete from delivery")
    front = 0

    async def forget() -> None:
        nonlocal front
        for position in range(1, FORGOTTEN):
            async with world.pool.acquire() as connection, connection.transaction():
                await connection.execute("delete from event where position = $1", position)
                await connection.execute(
                    "update account set forgotten = $2 where id = $1", ACCOUNT, position
                )
            front = position

    async def read(rng: Random) -> None:
        while front < FORGOTTEN - 1:
            try:
                after, page = await read_feed(world.pool, ACCOUNT, front + rng.randint(0, 1), 5)
            except Problem as problem:
                if problem.status != 410:
                    raise
            else:
                assert page[0]["position"] == after + 1

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(forget())
        for seed in range(3):
            tasks.create_task(read(Random(seed)))


# ---------------------------------------------------------------------------- what is refused


async def test_what_can_not_be_followed_is_refused_before_the_upgrade(
    world: World, carol: Caller
) -> None:
    await history(world.pool, 1, 5)
    await world.pool.execute("delete from delivery")
    await world.pool.execute("delete from event where position <= 2 and account = $1", ACCOUNT)
    await world.pool.execute("update account set forgotten = 2 where id = $1", ACCOUNT)
    writer = world.caller(await world.new_key(ACCOUNT, "write"))
    assert await refused(world, world.nobody) == 401
    assert await refused(world, writer) == 403
    assert await refused(world, carol, account="alice") == 403
    assert await refused(world, world.admin) == 400
    assert await refused(world, carol, after=-1) == 400
    assert await refused(world, carol, after=1) == 410
    assert await refused(world, carol, after=6) == 409
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    beyond = await carol.ask("GET", "/v1/stream", params={"after": 6}, headers=upgrade)
    assert (beyond.status, beyond.body["code"]) == (409, "FEED_RESET")
    plain = await carol.get("/v1/stream")
    assert (plain.status, plain.error) == (
        400,
        "this is a WebSocket: ask for it with `Upgrade: websocket`",
    )
    async with connect(world, carol, after=2) as following:
        assert [item["position"] for item in await take(following, 3)] == [3, 4, 5]


async def test_clients_of_an_account_and_of_a_process_are_limited(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CLIENTS_PER_ACCOUNT", 2)
    monkeypatch.setattr(stream, "CLIENTS", 3)
    async with connect(world, carol) as first, connect(world, carol):
        assert await refused(world, carol) == 429
        async with connect(world, world.alice):
            assert await refused(world, world.bob) == 503
        await first.close()
        await rejoin(world, carol)


async def rejoin(world: World, caller: Caller) -> None:
    """The place of a stream that ended is free soon."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                async with connect(world, caller):
                    return
            except aiohttp.WSServerHandshakeError:
                await asyncio.sleep(0.05)


# ---------------------------------------------------------------------------- how it ends


async def test_a_revoked_or_expired_key_ends_its_streams(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEYS_SECONDS", 0.1)
    monkeypatch.setattr(stream, "POLL_SECONDS", 0.1)
    other = world.caller(await world.new_key(ACCOUNT, "read"))
    third = world.caller(await world.new_key(ACCOUNT, "read"))
    async with (
        connect(world, carol) as revoked,
        connect(world, other) as expired,
        connect(world, third) as staying,
        connect(world, world.admin, account=ACCOUNT) as operator,
    ):
        first, second, _ = await world.pool.fetch(
            "select id from api_key where account = $1 order by created_at", ACCOUNT
        )
        await world.admin.delete(f"/v1/accounts/{ACCOUNT}/keys/{first['id']}")
        assert await end(revoked) == (4401, "the key is not valid any more")
        await world.pool.execute(
            "update api_key set expires_at = clock() where id = $1", second["id"]
        )
        assert await end(expired) == (4401, "the key is not valid any more")
        await nothing_more(staying)
        await nothing_more(operator)


async def test_a_stopping_server_says_so(world: World, carol: Caller) -> None:
    async with connect(world, carol) as following:
        closing = asyncio.create_task(world.server.close())
        assert await end(following) == (1001, "this server stops; go on with another")
        await closing


async def test_a_feed_that_forgot_what_is_missing_ends_the_stream(
    world: World, carol: Caller
) -> None:
    await history(world.pool, 1, 2)
    async with connect(world, carol, after=2) as following:
        async with world.pool.acquire() as connection, connection.transaction():
            await rows.history(connection, 2, 2, ACCOUNT)
            await connection.execute("update account set forgotten = 4 where id = $1", ACCOUNT)
        assert await end(following) == (4410, "GONE: events up to 4 are no longer kept")


async def test_a_feed_that_began_anew_ends_the_stream(world: World, carol: Caller) -> None:
    await history(world.pool, 1, 3)
    async with connect(world, carol, after=3) as following:
        await world.pool.execute("update account set position = 1 where id = $1", ACCOUNT)
        code, reason = await end(following)
    assert code == 4409
    assert reason.startswith("FEED_RESET: the newest event is 1, 3 is beyond it")


async def test_a_client_that_talks_is_sent_away(world: World, carol: Caller) -> None:
    async with connect(world, carol) as following:
        await following.send_str("hello")
        assert await end(following) == (1003, "this stream takes no messages")


async def test_a_fault_of_ours_ends_the_stream_and_no_other(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(world, carol) as following, connect(world, world.alice) as other:

        async def broken(*_: object) -> Any:
            raise Impossible("a bug")

        monkeypatch.setattr(stream, "read_feed", broken)
        await history(world.pool, 1, 1)
        assert await end(following) == (1011, "a fault of ours, which the log has")
        await nothing_more(other)


async def test_a_watch_that_falls_ends_all_streams_and_begins_anew(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(world, carol) as following:
        with monkeypatch.context() as patch:

            async def broken(*_: object) -> Any:
                raise Impossible("a bug")

            patch.setattr(stream, "valid_keys", broken)
            patch.setattr(stream, "KEYS_SECONDS", 0.0)
            assert await end(following) == (1011, "a fault of ours, which the log has")
    async with connect(world, carol) as following:
        await history(world.pool, 1, 1)
        await take(following, 1)


async def test_a_silent_client_is_dropped_and_one_that_answers_stays(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.8)
    monkeypatch.setattr(stream, "CLIENTS_PER_ACCOUNT", 2)
    async with connect(world, carol) as answering:
        silent = await world.session.ws_connect(
            f"{carol.base}/v1/stream", headers=carol.headers, autoping=False
        )
        receiving = asyncio.create_task(answering.receive())
        assert (await silent.receive(SECONDS)).type is WSMsgType.PING
        await rejoin(world, carol)
        await silent.close()
        await asyncio.sleep(2.0)
        assert not receiving.done()
        receiving.cancel()


# ---------------------------------------------------------------------------- slow clients


@asynccontextmanager
async def raw_client(caller: Caller) -> AsyncIterator[asyncio.StreamReader]:
    """A client with small buffers that reads only when the test does."""
    host, port = caller.base.removeprefix("http://").split(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=made, limit=4096)
    key = caller.headers["X-Api-Key"]
    writer.write(
        f"GET /v1/stream HTTP/1.1\r\nHost: {host}\r\nX-Api-Key: {key}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    try:
        assert b" 101 " in await reader.readline()
        while await reader.readline() != b"\r\n":
            pass
        yield reader
    finally:
        writer.close()


async def frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The opcode and payload of the next frame, which a server does not mask."""
    first, length = await reader.readexactly(2)
    if length == 126:
        length = int.from_bytes(await reader.readexactly(2), "big")
    elif length == 127:
        length = int.from_bytes(await reader.readexactly(8), "big")
    return first & 0x0F, await reader.readexactly(length)


async def large_history(pool: asyncpg.Pool) -> None:
    deposit = await rows.deposit(pool, 1, account=ACCOUNT)
    body = json.dumps({"type": "deposit.detected", "pad": "x" * EVENT_BYTES}).encode()
    await pool.execute(
        """
        insert into event (account, position, id, deposit, sequence, type, body)
        select $1, n, 'evt_' || n, $2, n, 'deposit.detected', $3 from generate_series(1, $4::int) n
        """,
        ACCOUNT,
        deposit,
        body,
        EVENTS_BEYOND_BUFFERS,
    )
    await pool.execute(
        "update account set position = $2 where id = $1", ACCOUNT, EVENTS_BEYOND_BUFFERS
    )


async def test_a_slow_client_is_told_so_and_what_it_got_is_whole(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SLOW_SECONDS", 0.5)
    monkeypatch.setattr(stream, "CLOSE_SECONDS", SECONDS)
    await large_history(world.pool)
    async with raw_client(carol) as reader, asyncio.timeout(SECONDS):
        await asyncio.sleep(1.5)
        positions = []
        while (got := await frame(reader))[0] == WSMsgType.TEXT:
            positions.append(json.loads(got[1])["position"])
    opcode, payload = got
    assert opcode == WSMsgType.CLOSE
    assert int.from_bytes(payload[:2], "big") == 1013
    assert payload[2:].startswith(b"too slow: an event was not taken within ")
    assert positions == list(range(1, len(positions) + 1))
    assert 0 < len(positions) < EVENTS_BEYOND_BUFFERS
    async with connect(world, carol, after=len(positions)) as following:
        (item,) = await take(following, 1)
    assert item["position"] == len(positions) + 1


async def test_one_that_never_reads_again_is_dropped(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(stream, "CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(stream, "CLIENTS_PER_ACCOUNT", 1)
    await large_history(world.pool)
    async with raw_client(carol):
        assert await refused(world, carol) == 429
        await rejoin(world, carol)


async def test_a_client_that_reads_slowly_but_steadily_stays(
    world: World, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SLOW_SECONDS", 2.0)
    await large_history(world.pool)
    async with raw_client(carol) as reader, asyncio.timeout(SECONDS):
        for position in range(1, EVENTS_BEYOND_BUFFERS + 1):
            opcode, payload = await frame(reader)
            assert (opcode, json.loads(payload)["position"]) == (WSMsgType.TEXT, position)
            await asyncio.sleep(0.01)
