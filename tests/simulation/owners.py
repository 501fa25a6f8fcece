"""What owners and operators ask for in a history, as the API and the commands do it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final, TypeAlias

import asyncpg

from callbacks import endpoints
from callbacks.signing import decode_secret
from indexer import coins, coverage, origin, review
from indexer.database import unavailable_database
from indexer.model import Decision, Refused, Unavailable
from tests.simulation.database import Connection
from tests.simulation.receivers import Receiver
from tests.simulation.world import ACCOUNTS, NETWORK, World

HELD_SECONDS: Final = 12.0  # that an owner keeps an endpoint paused, on average

Work: TypeAlias = Callable[[Connection], Coroutine[Any, Any, None]]


def _own(world: World, work: Work, done: Callable[[], None] = lambda: None) -> None:
    """Somebody writes through the API: all of it, or nothing."""

    async def write() -> None:
        with suppress(Refused, Unavailable, asyncpg.UniqueViolationError), unavailable_database():
            async with world.owner.acquire() as connection, connection.transaction():
                await work(connection)
            done()
        world.promises.note()

    world.begin("owner", write())


def register(world: World, account: str, address: bytes, role: str | None = None) -> None:
    register_all(world, account, [coverage.NewAddress(address, role=role)])


def register_all(
    world: World, account: str, addresses: Sequence[coverage.NewAddress], *, silent: bool = False
) -> None:
    async def work(connection: Connection) -> None:
        await coverage.register_addresses(connection, NETWORK, account, addresses, silent=silent)

    _own(world, work)


def register_some(world: World, choices: Random) -> None:
    from_block = choices.choice((None, None, choices.randrange(world.chain.head.number + 2)))
    role = choices.choice((None, None, None, None, None, "deposit", "own"))
    address = coverage.NewAddress(choices.choice(world.addresses), None, from_block, role)
    register_all(world, choices.choice(ACCOUNTS), [address], silent=choices.random() < 0.2)


def remove(world: World, choices: Random) -> None:
    account, address = choices.choice(ACCOUNTS), choices.choice(world.addresses)

    async def work(connection: Connection) -> None:
        await coverage.remove_address(connection, NETWORK, account, address)

    _own(world, work)


def list_coin(world: World, choices: Random) -> None:
    number = choices.randrange(len(world.payments.tokens))
    asset = world.payments.tokens[number]
    from_block = choices.choice((None, choices.randrange(world.chain.head.number + 2)))
    coin = coins.NewCoin(f"tok{number}", NETWORK, asset, "Token", "TOK", 6, from_block=from_block)

    async def work(connection: Connection) -> None:
        await coins.register_coin(connection, coin)

    _own(world, work)


def change_coin(world: World, choices: Random) -> None:
    coin = choices.choice(("native", "tok0", "tok1"))
    changes: dict[str, Any] = choices.choice(
        (
            {"active": choices.random() < 0.6},
            {"minimum": choices.choice((0, 10**17, 10**8))},
            {"confirmations": choices.choice((None, 1, 2, 5))},
        )
    )

    async def work(connection: Connection) -> None:
        if await connection.fetchval("select exists (select from coin where id = $1)", coin):
            await coins.change_coin(
                connection, NETWORK, world.codec, world.settings.required, coin, changes
            )

    _own(world, work)


def decide(world: World, choices: Random) -> None:
    """An admin decides on something that waits, or lets go what was ignored."""
    decision: Decision = choices.choice(("release", "reject"))

    async def work(connection: Connection) -> None:
        rows = await connection.fetch(
            "select id from deposit where state in ('held', 'ignored') order by id"
        )
        if rows:
            deposit = choices.choice(rows)["id"]
            world.reviewed.add(deposit)
            await review.review(
                connection, NETWORK, world.codec, world.settings.required, deposit, decision
            )

    _own(world, work)


def rewind(world: World, choices: Random) -> None:
    depth = choices.randint(1, 12)

    async def work() -> None:
        with suppress(Refused, Unavailable), unavailable_database():
            height = await world.owner.fetchval("select height from cursor")
            if height is not None:
                await origin.rewind(
                    world.owner, world.operator(), NETWORK, world.settings, max(0, height - depth)
                )
                world.rewinds += 1
                world.faults["rewind"] += 1

    world.begin("owner", work())


def add_endpoint(world: World, account: str) -> None:
    url = f"https://{account}{len(world.receivers)}.example/hook"
    receiver = world.receivers[url] = Receiver([])

    async def work(connection: Connection) -> None:
        endpoint, secret = await endpoints.create_endpoint(
            connection, world.vault, account, {"url": url, "headers": {"x-key": world.password}}
        )
        world.secrets.append(secret.removeprefix("whsec_"))
        receiver.secrets.append(decode_secret(secret))
        receiver.endpoint = endpoint

    def known() -> None:
        receiver.since = world.time.database()

    _own(world, work, known)


def add_some_endpoint(world: World, choices: Random) -> None:
    if len(world.receivers) < 3:
        add_endpoint(world, choices.choice(ACCOUNTS))


def hold_endpoint(world: World, choices: Random) -> None:
    """Its owner pauses it; later it goes on."""
    if not world.receivers:
        return
    endpoint = choices.choice([each.endpoint for each in world.receivers.values()])

    async def pause(connection: Connection) -> None:
        await endpoints.pause(connection, endpoint)

    async def resume(connection: Connection) -> None:
        await endpoints.resume(connection, endpoint)

    _own(world, pause)
    world.later(choices.expovariate(1 / HELD_SECONDS), lambda: _own(world, resume))
