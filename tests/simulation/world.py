"""One simulated world: the chain and its nodes, the machines, the receivers, and one database."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from random import Random
from typing import Any, Final
from unittest.mock import patch

from callbacks import endpoints
from callbacks.dispatcher import Dispatcher, Limits
from indexer.chains import Block
from indexer.chains.evm import EvmChain
from indexer.chains.evm_codec import EvmCodec
from indexer.config import Callbacks, EvmEndpoint, EvmNetwork
from indexer.devnet.evm_chain import CHAIN_ID
from indexer.follower import Follower, Matched
from indexer.lease import Lease
from indexer.network import Network
from indexer.secret import Vault
from tests.simulation import nodes, receivers
from tests.simulation.clock import EPOCH, Randomness, Time, instead
from tests.simulation.database import Database, Lost, Pool
from tests.simulation.fence import Fence
from tests.simulation.loop import PROCESS, Loop
from tests.simulation.nodes import Chain, Node, Payments, Wire
from tests.simulation.promises import Broken, Promise, Promises
from tests.simulation.receivers import Receiver, sender
from tests.simulation.seed import Seed
from tests.simulation.sessions import Server
from tests.simulation.truth import Truth

NETWORK: Final = "net"
MACHINES: Final = ("a", "b")
ACCOUNTS: Final = ("alice", "bob")
WATCHED: Final = 5  # addresses that anybody may watch
FINAL_DEPTH: Final = 8  # blocks below its head, that the chain calls final
WINDOW: Final = 10  # blocks that may be replaced
CONFIRMATIONS: Final = 3
FIRST_BLOCKS: Final = 3  # that are there when it begins
SECRET_KEY: Final = "a secret key of the simulation"
# Polls stand behind bells and hints: here they may be rare. Leases end within a history.
LIMITS: Final = Limits(
    attempt_seconds=4.0, poll_seconds=4.0, beat_seconds=4.0, lost_seconds=8.0, lease_seconds=8.0
)
STOP_SECONDS: Final = 10.0
POLL_SECONDS: Final = 2.0  # of followers
SCAN_POLL_SECONDS: Final = 5.0
STANDBY_SECONDS: Final = 4.0
LEASED: Final = 0.7  # part of the histories


class SeededVault(Vault):
    """Seals alike in every run of a history."""

    def __init__(self, choices: Random) -> None:
        super().__init__(SECRET_KEY)
        self._choices = choices

    def encrypt(self, plain: bytes, bound_to: str) -> bytes:
        with patch.object(os, "urandom", self._choices.randbytes):
            return super().encrypt(plain, bound_to)


class Process:
    """One life of a machine: follower, scanner and dispatcher, as `depositd run` has them."""

    def __init__(self, world: World, machine: str, number: int) -> None:
        self.name = f"{machine}:{number}"
        self.pool = Pool(world.database)
        self.stop = asyncio.Event()
        self.steps_left: int | None = None  # before it dies
        self.lost: tuple[int, Lost] | None = None  # after so many calls its connection is
        self.nap: float | None = None  # seconds for which it will be stopped
        self.steps_awake: int | None = None  # before that; None: until it has sent something
        self.holder = world.randomness.uuid4()  # its name in the database
        self._world = world

    def start(self) -> None:
        self._world.begin(self.name, self._run())

    async def _run(self) -> None:
        world = self._world
        choices = world.seed.stream(self.name)
        wire = Wire(world.nodes, world.time.monotonic, choices, world.alive)
        chain = EvmChain(world.settings, wire)
        network = Network(NETWORK, world.settings, chain, self.pool)
        dispatcher = Dispatcher(
            self.pool, world.vault, Callbacks(), LIMITS, rng=choices, now=world.time.time
        )
        async with asyncio.TaskGroup() as parts:
            parts.create_task(dispatcher.run(self.stop))
            if await network.open(self.stop):
                parts.create_task(network.follow(self.stop, self.holder))
                parts.create_task(network.scan(self.stop, self.holder))


class World:
    """All that there is in one history."""

    def __init__(self, seed: Seed, server: Server) -> None:
        self.seed = seed
        self.loop = Loop(seed.stream("loop"))
        self.time = Time(self.loop)
        self.randomness = Randomness(seed.stream("names"))
        self.vault = SeededVault(seed.stream("vault"))
        self.fence = Fence(lambda text: self.problem(Promise.NO_DUPLICATE, text))
        self.database = Database(
            server, self.loop, self.time, self, self.fence.hear, seed.stream("database")
        )
        self.chain = Chain(seed.number, clock=self._block_time, finality=FINAL_DEPTH)
        wallets = [self.chain.wallet(f"watched {number}") for number in range(WATCHED)]
        self.addresses = [wallet.address for wallet in wallets]
        self.payments = Payments(self.chain, self.addresses, seed.stream("traffic"))
        self.truth = Truth(
            self.chain, [*self.addresses, self.payments.own], [b"", *self.payments.tokens]
        )
        for number in range(FIRST_BLOCKS):
            self.payments.block(seed.stream(f"block {number}"))
        self.nodes = [Node(f"node{number}", self.chain) for number in range(2)]
        self.settings = _settings(self.nodes, seed.stream("settings"))
        self.receivers: dict[str, Receiver] = {}  # by URL
        self.processes: dict[str, Process] = {}  # by machine; those that are up
        self.slow: dict[str, float] = {}  # seconds, by machine that is far from its database
        self.owner = Pool(self.database)
        self.codec = EvmCodec()
        self.secrets = [node.secret for node in self.nodes]  # that no log may show
        self.faults: Counter[str] = Counter()  # that struck
        self.log: list[str] = []
        self.problems: list[tuple[Promise, str]] = []  # promises that were broken, and how
        self.password = "a-password-of-an-endpoint"
        self.secrets.append(self.password)
        self.final = 0  # the highest block that was ever final
        self.reviewed: set[str] = set()  # deposits that a person decided on
        self.rewinds = 0
        self.waylaid: dict[bytes, Callable[[Process], None]] = {}  # blocks, until one is matched
        self.promises = Promises(self)
        self._lives: Counter[str] = Counter()

    def _block_time(self) -> int:
        return int(EPOCH.timestamp() + self.loop.now)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The program sees this world's time, randomness and receivers."""
        post = sender(
            receivers=self.receivers,
            choices=self.seed.stream("receivers"),
            true_time=lambda: EPOCH.timestamp() + self.loop.now,
            sending=self._sending,
            complain=lambda text: self.problem(Promise.ORDER, text),
        )
        with (
            instead(self.time, self.randomness),
            patch("callbacks.attempts.Sender", post),
            patch("indexer.network.SCAN_POLL_SECONDS", SCAN_POLL_SECONDS),
            patch("indexer.network.STANDBY_SECONDS", STANDBY_SECONDS),
            self._leases(),
            self._matching(),
            self.loop.running(),
        ):
            yield

    def _leases(self) -> AbstractContextManager[object]:
        """In some histories everybody leads: the cursor alone must keep followers apart."""
        if self.seed.stream("leases").random() < LEASED:
            return nullcontext()
        self.faults["a lease for everybody"] += 1
        return patch.object(Lease, "held", True)

    def _matching(self) -> AbstractContextManager[object]:
        """A follower that has matched a block for which somebody lies in wait has not committed."""
        match = Follower._match

        def matched(follower: Follower, blocks: Sequence[Block], *rest: Any) -> Matched:
            for block in blocks:
                if (strike := self.waylaid.pop(block.header.hash, None)) is not None:
                    process = self.processes[PROCESS.get().partition(":")[0]]
                    contextvars.Context().run(strike, process)  # what it begins is the world's
            return match(follower, blocks, *rest)

        return patch.object(Follower, "_match", matched)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something when so much time has passed."""
        self.loop.call_later(seconds, act)

    def operator(self) -> EvmChain:
        """An operator's own look at the nodes."""
        wire = Wire(self.nodes, self.time.monotonic, self.seed.stream("operator"), self.alive)
        return EvmChain(self.settings, wire)

    def problem(self, promise: Promise, text: str) -> None:
        self.problems.append((promise, text))

    # ---------------------------------------------------------------- machines

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have somebody do something; whatever it raises is a problem."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, name)
        task = self.loop.create_task(work, name=name, context=context)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.problem(Promise.LIFE, f"{task.get_name()} stopped: {_sentence(error)}")

    def start(self, machine: str) -> None:
        """Begin a machine's next life, if it has none."""
        if machine not in self.processes:
            self._lives[machine] += 1
            process = Process(self, machine, self._lives[machine])
            self.processes[machine] = process
            process.start()

    def stop(self, machine: str) -> None:
        """SIGTERM: it finishes what is in hand; then it is killed as systemd would."""
        process = self.processes[machine]
        process.stop.set()
        self.later(STOP_SECONDS, lambda: self._end(process))

    def _end(self, process: Process) -> None:
        machine = process.name.partition(":")[0]
        if self.processes.get(machine) is process:
            self.kill(machine)

    def kill(self, machine: str) -> None:
        """kill -9: nothing is left of it but what is committed."""
        process = self.processes.pop(machine)
        self.loop.kill(process.name)
        process.pool.die()

    def alive(self) -> None:
        """CancelledError where the running process is dead."""
        name = PROCESS.get()
        machine, _, number = name.partition(":")
        if number and (machine not in self.processes or self.processes[machine].name != name):
            raise asyncio.CancelledError

    def _sending(self) -> None:
        """The running process sends a callback; it may be stopped before it has the answer."""
        self.alive()
        process = self.processes[PROCESS.get().partition(":")[0]]
        if process.steps_awake is None:
            self.pause(process)

    def pause(self, process: Process) -> None:
        """SIGSTOP where that is due, and SIGCONT later."""
        if process.nap is not None:
            self.faults["process stopped and woken"] += 1
            self.loop.paused[process.name] = self.loop.now + process.nap
            process.nap = process.steps_awake = None

    def strike(self) -> Lost | None:
        """See database.Faults."""
        self.alive()
        process = self.processes.get(PROCESS.get().partition(":")[0])
        if process is None or process.lost is None:
            return None
        left, lost = process.lost
        process.lost = (left - 1, lost) if left else None
        if left:
            return None
        self.faults[f"connection lost {lost.value} a call"] += 1
        return lost

    def slowness(self) -> float:
        """See database.Faults."""
        return self.slow.get(PROCESS.get().partition(":")[0], 0.0)

    def deadlocked(self, statements: Sequence[str]) -> None:
        """See database.Faults."""
        waiting = "; ".join(" ".join(each.split()) for each in statements)
        self.problem(Promise.LIFE, f"transactions wait for each other: {waiting}")

    def step(self) -> bool:
        """One step of anybody; a process whose last it was dies, or stops for a while."""
        went = self.loop.step()
        machine = self.loop.last.partition(":")[0]
        if (process := self.processes.get(machine)) is not None:
            self._stepped(machine, process)
        return went

    def _stepped(self, machine: str, process: Process) -> None:
        if process.steps_awake is not None:
            process.steps_awake -= 1
            if process.steps_awake <= 0:
                self.pause(process)
        if process.steps_left is not None:
            process.steps_left -= 1
            if process.steps_left <= 0:
                self.faults["crash"] += 1
                self.kill(machine)

    # ---------------------------------------------------------------- the end

    def calm(self) -> None:
        """Nothing goes wrong any more, and what was held goes on."""
        for node in self.nodes:
            node.mood, node.stuck = nodes.Mood.HONEST, False
        for receiver in self.receivers.values():
            receiver.mood = receivers.Mood.WELL
        self.loop.paused.clear()
        self.slow.clear()
        for machine in MACHINES:
            self.start(machine)
            process = self.processes[machine]
            process.steps_left = process.lost = process.nap = process.steps_awake = None
        rewound = self.cursor("coalesce(rewound_from, 0)") or 0
        while self.chain.head.number < max(rewound, self.final + FINAL_DEPTH) + 2:
            self.payments.quiet()
        for node in self.nodes:
            node.sync()
        self.begin("owner", self._hurry())

    async def _hurry(self) -> None:
        for receiver in self.receivers.values():
            async with self.owner.acquire() as connection, connection.transaction():
                await endpoints.resume(connection, receiver.endpoint)
            await endpoints.hurry(self.owner, receiver.endpoint)

    def has_begun(self) -> bool:
        """Whether somebody follows the chain, so that others can ask for something."""
        return self.cursor("true") is not None

    def scanner(self) -> str | None:
        """A machine that reads past blocks again, if there is one."""
        claims = self.database.server.ask("select holder from scan_claim")
        holders = {row["holder"] for row in claims}
        return next((m for m, each in self.processes.items() if each.holder in holders), None)

    def unrest(self) -> list[str]:
        """What has still to come to rest."""
        head = self.chain.head
        final = head.number - (FINAL_DEPTH if self.settings.finality == "network" else WINDOW)
        [row] = self.database.server.ask(_UNREST, head.hash, max(-1, final))
        return [name for name, waits in row.items() if waits]

    def cursor(self, what: str) -> Any:
        """An expression of the cursor's columns; None where there is no cursor yet."""
        rows = self.database.server.ask(f"select {what} as it from cursor")  # noqa: S608
        return rows[0]["it"] if rows else None

    def go_on(self, seconds: float) -> None:
        """Let everybody go on for a while. Raises Broken."""
        come: list[bool] = []
        self.loop.call_later(seconds, lambda: come.append(True))
        while not come and not self.problems:
            if not self.step():
                self.problem(Promise.LIFE, "nobody has anything to do any more")
            if self.loop.failures:
                self.problem(Promise.LIFE, _sentence(self.loop.failures.pop()))
        if self.problems:
            raise Broken(*self.problems[0])
        self.promises.checked[Promise.LIFE] += 1


_UNREST: Final = """
    select not exists (select from cursor where hash = $1) as cursor,
           not exists (select from cursor where finalized = $2) as finality,
           exists (select from cursor where rewound_from is not null) as rewind,
           exists (select from scan where state = 'open') as scans,
           exists (select from watched_address where state = 'pending') as addresses,
           exists (select from coin where state = 'pending') as coins,
           exists (select from deposit d, cursor c
                    where (d.state = 'detected' and c.height - d.height + 1 >= d.required)
                       or (d.state = 'confirmed' and d.height <= c.finalized)) as promotions,
           exists (select from delivery) as deliveries
"""


def _settings(served: list[Node], choices: Random) -> EvmNetwork:
    return EvmNetwork(
        id=NETWORK,
        family="evm",
        coin="native",
        symbol="NAT",
        decimals=18,
        endpoints=tuple(EvmEndpoint(url=node.url) for node in served),
        chain_id=CHAIN_ID,
        native="traces",
        confirmations=CONFIRMATIONS,
        reorg_window=WINDOW,
        finality=choices.choice(("network", "depth")),
        poll_interval=POLL_SECONDS,
    )


def _sentence(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
