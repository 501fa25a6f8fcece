"""An installation that follows one network: engine, account, endpoint, receiver.

What a scenario does with it whatever the network's family; the worlds of the families add a node.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg

from tests.harness.api import Client
from tests.harness.engine import ADMIN_KEY, LOG_TAIL, Engine, engine
from tests.harness.receiver import Receiver, receiver

PATIENCE: Final = 30.0  # seconds until what must happen has happened
LOOK: Final = 0.03  # seconds between two looks
CONFIRMATIONS: Final = 2
WINDOW: Final = 40  # blocks that may be replaced
POLL: Final = 0.05  # seconds

# Whether the follower is at a block, and has nothing left to activate or to scan.
SETTLED: Final = """
    select c.hash = $2
       and not exists (select from watched_address where network = $1 and state = 'pending')
       and not exists (select from coin where network = $1 and state = 'pending')
       and not exists (select from scan where network = $1 and state = 'open')
      from cursor c where network = $1
"""

# Deliveries that wait for their next attempt, and are not being attempted, are due now.
HURRY: Final = "update delivery set due_at = clock() where lease_token is null"

# The first fields of a scene.
Parts: TypeAlias = tuple[str, Engine, Receiver, Client, Client, asyncpg.Connection]


@dataclass
class Scene(ABC):
    """What a scenario acts on and looks at."""

    network: str
    engine: Engine
    receiver: Receiver
    admin: Client
    account: Client
    database: asyncpg.Connection

    @abstractmethod
    async def head(self) -> bytes:
        """Hash of the newest block that the honest node has."""

    async def subscribe(self, events: list[str] | None = None) -> None:
        """An endpoint of the account at the receiver."""
        body: dict[str, Any] = {"url": self.receiver.url}
        if events is not None:
            body["events"] = events
        self.receiver.secrets.append((await self.account.post("/v1/endpoints", body))["secret"])

    async def follow(self) -> None:
        """Wait until the engine stands at the node's head and has nothing left to do there."""
        head = await self.head()

        async def there() -> bool:
            return bool(await self.database.fetchval(SETTLED, self.network, head))

        await self.until(there, "the engine did not reach the node's head")

    async def until(
        self, done: Callable[[], Awaitable[bool]], otherwise: str, patience: float = PATIENCE
    ) -> None:
        """Wait until `done`; a failure shows the end of the engine's log."""
        end = time.monotonic() + patience
        while not await done():
            assert time.monotonic() < end, f"{otherwise}\n{self.engine.log[-LOG_TAIL:]}"
            await asyncio.sleep(LOOK)

    async def delivered(self, patience: float = PATIENCE) -> None:
        """Wait until no callback is left to send; a test does not wait out the retry schedule."""

        async def nothing_left() -> bool:
            await self.database.execute(HURRY)
            return not await self.database.fetchval("select count(*) from delivery")

        await self.until(nothing_left, "callbacks are left over", patience)
        self.receiver.check()

    async def deposits(self, **query: str) -> list[dict[str, Any]]:
        """The account's deposits, oldest first."""
        return (await self.account.all("/v1/deposits", **query))[::-1]

    async def histories(self) -> dict[str, list[str]]:
        """The types of each deposit's events so far, without `deposit.`."""
        found: dict[str, list[str]] = {}
        for each in await self.account.events():
            types = found.setdefault(each["data"]["id"], [])
            types.append(each["type"].removeprefix("deposit."))
            assert each["data"]["sequence"] == len(types)
        return found

    async def types(self, deposit: str) -> list[str]:
        """The same of one deposit."""
        return (await self.histories()).get(deposit, [])

    async def until_all(self, status: str) -> None:
        """Wait until every deposit is in a state: finality comes with the poll after a block's."""

        async def in_it() -> bool:
            return {row["status"] for row in await self.deposits()} == {status}

        await self.until(in_it, f"the deposits never were {status}")

    async def state(self) -> str:
        """The network's state by the API."""
        items = (await self.admin.get("/v1/networks"))["items"]
        found: str = next(each["state"] for each in items if each["network"] == self.network)
        return found

    async def until_state(self, state: str) -> None:
        async def in_it() -> bool:
            return await self.state() == state

        await self.until(in_it, f"the network never was {state}")


@asynccontextmanager
async def installed(
    dsn: str,
    folder: Path,
    network: str,
    settings: Mapping[str, Any],
    *,
    inside: bool = True,
    fail: float = 0.0,
    delay: float = 0.0,
) -> AsyncIterator[Parts]:
    """A running installation with one account, following a network with these settings.

    `inside`: the engine runs in this process. `fail` and `delay` are the receiver's.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        calls = await enter(receiver(fail, delay))  # ends after who calls it
        running = await enter(engine(folder, dsn, {network: settings}, inside=inside))
        database = await asyncpg.connect(dsn)
        stack.push_async_callback(database.close)
        admin = await enter(Client(running.base, ADMIN_KEY))
        account = await enter(Client(running.base, await open_account(admin)))
        yield network, running, calls, admin, account, database


async def started(admin: Client, *networks: str) -> None:
    """Wait until each network follows its chain."""
    async with asyncio.timeout(PATIENCE):
        while True:
            items = (await admin.get("/v1/networks"))["items"]
            following = {each["network"] for each in items if each["state"] == "following"}
            if following >= set(networks):
                return
            await asyncio.sleep(LOOK)


async def open_account(admin: Client, name: str = "shop") -> str:
    """A new account; a key of it that may do everything."""
    made = await admin.post("/v1/accounts", {"name": name, "id": name})
    scopes = {"scopes": ["read", "write"]}
    key: str = (await admin.post(f"/v1/accounts/{made['id']}/keys", scopes))["key"]
    return key
