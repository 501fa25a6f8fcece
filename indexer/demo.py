"""`depositd demo`: the whole engine against simulated nodes, and every callback held to account.

Everything is real but the chains: an embedded PostgreSQL in a temporary folder, one engine as `run`
composes it that follows a network of each family, its HTTP API as users call it, callbacks over
HTTP to receivers that verify them. Nothing leaves loopback.

Blocks are mined only when the engine has applied those before, so that which events each deposit
must have follows from the chains' script alone (`devnet.forecast`).
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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TextIO, TypeAlias

from callbacks.signing import decode_secret
from indexer import config, log
from indexer.client import Client
from indexer.demo_receivers import Receiver, receivers
from indexer.devnet.account import PLANS, Account, open_account
from indexer.devnet.screen import NETWORK_WIDTH, Screen, short
from indexer.devnet.simulation import Simulation
from indexer.devnet.simulations import simulations
from indexer.devnet.traffic import Step
from indexer.engine import Engine
from indexer.installation import opened
from indexer.model import Impossible, Unavailable
from indexer.secret import write_private

BLOCK_SECONDS: Final = 1.0
HURRIED_SECONDS: Final = 0.1  # between blocks where their number is given
POLL_SECONDS: Final = 0.05  # between two looks at whether something has happened
START_SECONDS: Final = 60.0  # until the engine follows the nodes
STEP_SECONDS: Final = 60.0  # until the engine has applied new blocks
SETTLE_SECONDS: Final = 60.0  # until the last callback has come
QUIET_BLOCKS: Final = 20  # at once, for what is open to be confirmed and finalized
QUIET_STEPS: Final = 10  # at most; a coinbase waits for a hundred blocks
SHOWN_BLOCKS: Final = 5  # of a step; more of them are one line
DIFFERENCES: Final = 20  # shown at most

Steps: TypeAlias = Sequence[tuple[Simulation, Step[Any]]]


async def run_demo(blocks: int | None, out: TextIO = sys.stdout) -> int:
    """Mine `blocks` blocks with traffic on each network, or go on until SIGINT or SIGTERM.

    Returns an exit code.
    """
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
    networks = simulations()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        screen.plain(f"starting PostgreSQL in {folder}, simulated nodes, the engine, receivers …")
        for network in networks:
            await stack.enter_async_context(network.node)
        taking = await stack.enter_async_context(receivers(screen, [plan.id for plan in PLANS]))
        async with _engine(_settings(folder, networks)) as (api, failed):
            demo = Demo(screen, networks, taking, api, failed, stop)
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
        networks: Sequence[Simulation],
        receivers: Mapping[str, Receiver],
        api: Client,
        failed: Callable[[], str | None],
        stop: asyncio.Event,
    ) -> None:
        self._screen = screen
        self._networks = networks
        self._receivers = receivers  # by account
        self._api = api
        self._failed = failed
        self._stop = stop
        self._accounts: list[Account] = []

    async def prepare(self) -> None:
        """Register coins, accounts, addresses and endpoints, as an operator and his users do."""
        await self._until(self._caught_up, START_SECONDS, "follow the nodes")
        if self._stop.is_set():
            return
        for network in self._networks:
            for asset in network.traffic.assets:
                contract = network.codec.format_asset(asset)
                await self._api.create_coin(network.id, contract)
        for plan in PLANS:
            account = await open_account(self._api, plan, self._networks)
            await account.watch()
            receiver = self._receivers[plan.id]
            receiver.inbox.secrets.append(decode_secret(await account.subscribe(receiver.url)))
            self._accounts.append(account)

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
            self._screen.line("problem", "", problem)
        if len(problems) > DIFFERENCES:
            self._screen.line("problem", "", f"and {len(problems) - DIFFERENCES} more")
        return 1 if problems else 0

    def sum_up(self) -> None:
        """A line for each network; the last line for all."""
        feeds = [event for account in self._accounts for event in account.feed]
        received = [event for receiver in self._receivers.values() for event in receiver.events]

        def count(networks: Sequence[Simulation]) -> str:
            ids = {network.id for network in networks}
            deposits = {e["data"]["id"] for e in feeds if e["data"]["network"] in ids}
            verified = sum(e["data"]["network"] in ids for e in received)
            reorgs = sum(network.reorgs for network in networks)
            return f"{len(deposits)} deposits, {verified} callbacks verified, {reorgs} reorgs"

        for network in self._networks:
            self._screen.plain(f"{network.id:<{NETWORK_WIDTH}}  {count([network])}")
        self._screen.plain(count(self._networks))

    # ---------------------------------------------------------------- the chains

    async def _mine(self, blocks: int | None) -> None:
        """Traffic on every network that has not got its blocks yet."""
        pause = BLOCK_SECONDS if blocks is None else HURRIED_SECONDS
        while not self._stop.is_set():
            started = time.monotonic()
            going = [n for n in self._networks if blocks is None or n.head < n.first + blocks]
            if not going:
                return
            await self._apply([(network, network.step()) for network in going])
            await self._sleep(pause - (time.monotonic() - started))

    async def _mine_quietly(self) -> None:
        """Blocks without new traffic, until nothing is left to be confirmed or finalized."""
        for _ in range(QUIET_STEPS):
            going = [network for network in self._networks if network.forecast.unfinished()]
            if self._stop.is_set() or not going:
                return
            await self._apply([(n, n.traffic.quiet(QUIET_BLOCKS)) for n in going])

    async def _apply(self, steps: Steps) -> None:
        """Show new blocks, and let the engine have them before anything else happens."""
        for network, step in steps:
            self._show(network, step)
        await self._until(self._caught_up, STEP_SECONDS, "apply the newest blocks")
        for network, _ in steps:
            network.observe()
        await self._read_feeds()

    def _show(self, network: Simulation, step: Step[Any]) -> None:
        first, last = step.blocks[0], step.blocks[-1]
        if step.depth:
            self._screen.line("reorg", network.id, f"{step.depth} deep, from {first.number} on")
        if len(step.blocks) > SHOWN_BLOCKS:
            many = f"{first.number:>6} to {last.number}, no new traffic"
            self._screen.line("block", network.id, many)
            return
        for block in step.blocks:
            count = len(network.traffic.chain.transactions(block))
            held = "1 transaction" if count == 1 else f"{count} transactions"
            shown = short(network.codec.format_hash(block.hash))
            self._screen.line("block", network.id, f"{block.number:>6}", shown, held)

    async def _caught_up(self) -> bool:
        cursors = {each["network"]: each["cursor"] for each in await self._api.networks()}
        return all(cursors[network.id] == network.head for network in self._networks)

    # ---------------------------------------------------------------- what comes of it

    async def _read_feeds(self) -> None:
        for account in self._accounts:
            for event in await account.read():
                data = event["data"]
                shown = f"{data['reference']}", short(data["transactionHash"])
                self._screen.step("deposit", account.id, data, *shown)

    async def _all_come(self) -> None:
        """Wait until feeds and inboxes hold what was foretold; too late is for `_problems`."""

        async def come() -> bool:
            await self._read_feeds()
            return not self._problems()

        try:
            await self._until(come, SETTLE_SECONDS, "send the last callback")
        except Unavailable as late:
            self._screen.line("problem", "", str(late))

    def _problems(self) -> list[str]:
        """What should have come and did not, or came and should not have."""
        problems: list[str] = []
        if self._stop.is_set():
            problems.append("interrupted before everything was confirmed")
        for account in self._accounts:
            receiver = self._receivers[account.id]
            problems += [*receiver.problems, *account.problems(receiver.events)]
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
) -> AsyncIterator[tuple[Client, Callable[[], str | None]]]:
    """The engine as `run` composes it: its API with the operator's key, and how it ended if so."""
    stop = asyncio.Event()
    async with opened(settings) as installation:
        engine = Engine(settings, installation)
        running = asyncio.create_task(engine.run(stop))

        def failed() -> str | None:
            return f"exit code {running.result()}" if running.done() else None

        try:
            first: set[asyncio.Future[Any]] = {running, engine.api_url}
            await asyncio.wait(first, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not engine.api_url.done():
                raise Unavailable("the engine's API did not start")
            async with Client(engine.api_url.result(), settings.api.admin_key or "") as operator:
                yield operator, failed
        finally:
            stop.set()
            await running


def _settings(folder: Path, networks: Sequence[Simulation]) -> config.Settings:
    """Written as a user would write them, and read as a user's are; the environment has no say."""
    file = folder / "depositd.toml"
    tables = "".join(_table(network) for network in networks)
    write_private(
        file,
        f"""\
data_dir = {json.dumps(str(folder / "data"))}

[api]
listen = "127.0.0.1:0"
admin_key = "{secrets.token_urlsafe(32)}"

[callbacks]
allow_private = true
allow_http = true
{tables}""",
    )
    return config.load(file, {})


def _table(network: Simulation) -> str:
    """`[networks.ID]`: texts, numbers and lists of texts are the same in JSON and in TOML."""
    keys = {**network.rules, "endpoints": [network.node.url]}
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(["", f"[networks.{network.id}]", *lines, ""])
