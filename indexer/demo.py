"""`depositd demo`: the whole engine against a simulated node, and every callback held to account.

Everything is real but the chain: an embedded PostgreSQL in a temporary folder, the engine as `run`
composes it, its HTTP API as users call it, callbacks over HTTP to a receiver that verifies them.
Nothing leaves loopback.

A block is mined only when the engine has applied the one before, so that which events each deposit
must have follows from the chain's script alone (`devnet.forecast`).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, TextIO

import aiohttp

from callbacks.signing import decode_secret
from indexer import config, log
from indexer.demo_receivers import Receiver, receivers
from indexer.devnet.client import ApiClient
from indexer.devnet.evm_block import Block
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.evm_traffic import EvmTraffic
from indexer.devnet.forecast import Forecast, differences, read_history, without
from indexer.devnet.screen import Screen, amount, short
from indexer.devnet.traffic import Step
from indexer.engine import Engine
from indexer.installation import opened
from indexer.model import Impossible, Unavailable
from indexer.secret import write_private

NETWORK: Final = "demo"
CONFIRMATIONS: Final = 3
FINALITY: Final = 6  # blocks that the finalized one is behind the head; deeper than any reorg here
FIRST_BLOCKS: Final = 10  # empty ones, before anything is watched
ADDRESSES: Final = 6
SEED: Final = 2026  # of the chain and its traffic: every demo mines the same payments
BLOCK_SECONDS: Final = 1.0
HURRIED_SECONDS: Final = 0.1  # between blocks where their number is given
POLL_SECONDS: Final = 0.05  # between two looks at whether something has happened
START_SECONDS: Final = 60.0  # until the engine follows the node
STEP_SECONDS: Final = 60.0  # until the engine has applied a new block
SETTLE_SECONDS: Final = 60.0  # until the last callback has come
QUIET_BLOCKS: Final = 60  # at most, for what is open to be confirmed and finalized
DIFFERENCES: Final = 20  # shown at most


@dataclass(frozen=True)
class Tenant:
    """A demo account. `events`: what its endpoint asks for; None: what it gets unasked."""

    account: str
    name: str
    events: list[str] | None
    watches: slice  # of the addresses


TENANTS: Final = (
    Tenant("shop", "A shop", None, slice(0, 4)),
    Tenant("exchange", "An exchange", ["deposit.*"], slice(3, ADDRESSES)),  # one is watched by both
)


async def run_demo(blocks: int | None, out: TextIO = sys.stdout) -> int:
    """Mine `blocks` blocks with traffic, or go on until SIGINT or SIGTERM; returns an exit code."""
    log.configure(quiet=True)
    ready, stop = asyncio.Event(), asyncio.Event()
    working = asyncio.create_task(_run(blocks, Screen(out), ready, stop))

    def interrupt() -> None:
        if not ready.is_set() and not stop.is_set():
            working.cancel()  # what starts can't be asked to stop
        stop.set()

    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, interrupt)
    try:
        return await working
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        return 0 if blocks is None else 1
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)


async def _run(
    blocks: int | None, screen: Screen, ready: asyncio.Event, stop: asyncio.Event
) -> int:
    """The demo in a folder that is gone afterwards; `ready` once everything is started."""
    chain = SimulatedChain(SEED, finality=FINALITY)
    for _ in range(FIRST_BLOCKS):
        chain.mine()
    with _temporary_folder() as folder:
        screen.plain(f"starting PostgreSQL in {folder}, a simulated node, the engine, a receiver …")
        async with (
            EvmNode(chain) as node,
            receivers(screen, [t.account for t in TENANTS]) as taking,
        ):
            async with _engine(_settings(folder, node)) as (api, failed):
                demo = Demo(screen, chain, taking, api, failed, stop)
                await demo.prepare()
                ready.set()
                code = await demo.play(blocks)
            demo.sum_up()  # the engine sends what is in hand until it has stopped
        return code


class Demo:
    """One run: what is mined, what must come of it, and what came."""

    def __init__(
        self,
        screen: Screen,
        chain: SimulatedChain,
        receivers: Mapping[str, Receiver],
        api: ApiClient,
        failed: Callable[[], str | None],
        stop: asyncio.Event,
    ) -> None:
        self._screen = screen
        self._chain = chain
        self._receivers = receivers  # by account
        self._api = api
        self._failed = failed
        self._stop = stop
        keys = [chain.wallet(f"watched {n}").address for n in range(ADDRESSES)]
        self._traffic = EvmTraffic(chain, keys, Random(SEED))
        self._forecast = Forecast(CONFIRMATIONS)
        self._apis: dict[str, ApiClient] = {}  # by account
        self._feeds: dict[str, list[dict[str, Any]]] = {}
        self._reorgs = 0

    async def prepare(self) -> None:
        """Register coins, accounts, addresses and endpoints, as an operator and his users do."""
        await self._until(self._caught_up, START_SECONDS, "follow the node")
        if self._stop.is_set():
            return
        for token in self._traffic.tokens:
            coin = {"network": NETWORK, "contractAddress": f"0x{token.hex()}"}
            await self._api.post("/v1/coins", coin)
        for tenant in TENANTS:
            await self._api.post("/v1/accounts", {"id": tenant.account, "name": tenant.name})
            path = f"/v1/accounts/{tenant.account}/keys"
            key = await self._api.post(path, {"scopes": ["read", "write"]})
            api = self._api.as_(key["key"])
            watched = enumerate(self._traffic.addresses[tenant.watches], 1)
            addresses = [{"address": f"0x{a.hex()}", "reference": f"user-{n}"} for n, a in watched]
            await api.post("/v1/addresses", {"network": NETWORK, "addresses": addresses})
            receiver = self._receivers[tenant.account]
            endpoint: dict[str, Any] = {"url": receiver.url}
            if tenant.events is not None:
                endpoint["events"] = tenant.events
            secret = (await api.post("/v1/endpoints", endpoint))["secret"]
            receiver.inbox.secrets.append(decode_secret(secret))
            self._apis[tenant.account], self._feeds[tenant.account] = api, []

    async def play(self, blocks: int | None) -> int:
        """Mine until enough or stopped; then see that everything came that should have."""
        await self._mine(blocks)
        if blocks is None:
            return 0
        if not self._stop.is_set():
            await self._mine_quietly()
            await self._all_come()
        problems = self._problems()
        for problem in problems[:DIFFERENCES]:
            self._screen.line("problem", problem)
        if len(problems) > DIFFERENCES:
            self._screen.line("problem", f"and {len(problems) - DIFFERENCES} more")
        return 1 if problems else 0

    def sum_up(self) -> None:
        """The last line."""
        feeds = self._feeds.values()
        deposits = {event["data"]["id"] for feed in feeds for event in feed}
        verified = sum(len(receiver.events) for receiver in self._receivers.values())
        self._screen.plain(
            f"{len(deposits)} deposits, {verified} callbacks verified, {self._reorgs} reorgs"
        )

    # ---------------------------------------------------------------- the chain

    async def _mine(self, blocks: int | None) -> None:
        pause = BLOCK_SECONDS if blocks is None else HURRIED_SECONDS
        last = None if blocks is None else self._chain.head.number + blocks
        while not self._stop.is_set() and (last is None or self._chain.head.number < last):
            started = time.monotonic()
            await self._apply(self._traffic.step())
            await self._sleep(pause - (time.monotonic() - started))

    async def _mine_quietly(self) -> None:
        """Blocks without new traffic, until nothing is left to be confirmed or finalized."""
        for _ in range(QUIET_BLOCKS):
            if self._stop.is_set() or not self._forecast.unfinished():
                return
            await self._apply(self._traffic.quiet())

    async def _apply(self, step: Step[Block]) -> None:
        """Show new blocks, and let the engine have them before anything else happens."""
        if step.depth:
            self._reorgs += 1
            first = step.blocks[0].number
            self._screen.line("reorg", f"{step.depth} blocks are replaced from {first} on")
        for block in step.blocks:
            count = f"{len(block.executed)} transactions"
            self._screen.line("block", f"{block.number:>6}", short(block.json["hash"]), count)
        head = self._chain.head.number
        await self._until(self._caught_up, STEP_SECONDS, f"apply block {head}")
        finalized = self._chain.finalized
        self._forecast.observe(self._traffic.due(), head, finalized.number if finalized else -1)
        await self._read_feeds()

    async def _caught_up(self) -> bool:
        """Branches here always end longer, so that the height alone tells."""
        (network,) = (await self._api.get("/v1/networks"))["items"]
        return bool(network["cursor"] == self._chain.head.number)

    # ---------------------------------------------------------------- what comes of it

    async def _read_feeds(self) -> None:
        for account, feed in self._feeds.items():
            new = await self._apis[account].events(feed[-1]["position"] if feed else 0)
            feed += new
            for event in new:
                data = event["data"]
                self._screen.line(
                    "deposit",
                    f"{account:<8}",
                    amount(data["amount"], data["symbol"]),
                    f"{data['status']:<9}",
                    f"{data['reference']}",
                    short(data["transactionHash"]),
                )

    async def _all_come(self) -> None:
        """Wait until feeds and inboxes hold what was foretold; too late is for `_problems`."""

        async def come() -> bool:
            await self._read_feeds()
            return not self._problems()

        try:
            await self._until(come, SETTLE_SECONDS, "send the last callback")
        except Unavailable as late:
            self._screen.line("problem", str(late))

    def _problems(self) -> list[str]:
        """What should have come and did not, or came and should not have."""
        problems: list[str] = []
        if self._stop.is_set():
            problems.append("interrupted before everything was confirmed")
        for tenant in TENANTS:
            receiver = self._receivers[tenant.account]
            problems += receiver.problems
            history = self._forecast.history(self._traffic.addresses[tenant.watches])
            asked = without("finalized", history) if tenant.events is None else history
            for what, expected, events in (
                ("feed", history, self._feeds[tenant.account]),
                ("callbacks", asked, receiver.events),
            ):
                found = differences(expected, read_history(events))
                problems += [f"{tenant.account}'s {what}: {each}" for each in found]
        return problems

    # ---------------------------------------------------------------- waiting

    async def _until(self, done: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
        """Return when `done`, or when stopped; Unavailable after `seconds`."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and not await done():
            if (failure := self._failed()) is not None:
                raise Impossible(f"the engine stopped: {failure}")
            if self._screen.lost:
                raise Unavailable("the demo's output can't be written any more")
            if time.monotonic() > until:
                raise Unavailable(f"the engine did not {what} within {seconds:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), max(0.0, seconds))
        except TimeoutError:
            return


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="depositd-demo-"))
    folder.chmod(0o711)  # where we are root, PostgreSQL's user has to pass through it
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def _engine(
    settings: config.Settings,
) -> AsyncIterator[tuple[ApiClient, Callable[[], str | None]]]:
    """The engine as `run` composes it: its API with the operator's key, and how it ended if so."""
    stop = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=STEP_SECONDS)
    async with (
        opened(settings) as installation,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        engine = Engine(settings, installation)
        running = asyncio.create_task(engine.run(stop))

        def failed() -> str | None:
            return f"exit code {running.result()}" if running.done() else None

        try:
            first: set[asyncio.Future[Any]] = {running, engine.api_url}
            await asyncio.wait(first, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not engine.api_url.done():
                raise Unavailable("the engine's API did not start")
            yield ApiClient(session, engine.api_url.result(), settings.api.admin_key or ""), failed
        finally:
            stop.set()
            await running


def _settings(folder: Path, node: EvmNode) -> config.Settings:
    """Written as a user would write them, and read as a user's are; the environment has no say."""
    file = folder / "depositd.toml"
    write_private(
        file,
        f"""\
data_dir = {json.dumps(str(folder / "data"))}

[api]
listen = "127.0.0.1:0"
admin_key = "{secrets.token_urlsafe(32)}"

[networks.{NETWORK}]
family = "evm"
chain_id = {node.chain.chain_id}
coin = "sim"
endpoints = ["{node.url}"]
confirmations = {CONFIRMATIONS}
reorg_window = 32
poll_interval = 0.1
native = "traces"

[callbacks]
allow_private = true
allow_http = true
""",
    )
    return config.load(file, {})
