"""What happens in a history: blocks and forks, owners and operators, and what goes wrong.

A history's plan is a list of actions with their times. Each makes its own choices, so that a plan
of which some are left out is the same history without them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias

import asyncpg

from callbacks import endpoints
from callbacks.signing import decode_secret
from indexer import coins, coverage, origin, review
from indexer.database import unavailable_database
from indexer.model import Decision, Refused, Unavailable
from tests.simulation import nodes, receivers
from tests.simulation.database import Connection, Lost
from tests.simulation.receivers import Receiver
from tests.simulation.seed import Seed
from tests.simulation.world import ACCOUNTS, FINAL_DEPTH, MACHINES, NETWORK, World

ACTIONS: Final = (12, 36)  # of a history, at least and at most
SWARM: Final = (0.0, 0.3, 1.0, 4.0)  # times an action's weight
START_SECONDS: Final = 0.25  # between two looks whether a follower has begun
APART_SECONDS: Final = 1.5  # on average
LYING_SECONDS: Final = 12.0  # that a node, or a receiver, keeps a mood, on average
DOWN_SECONDS: Final = 6.0  # that a machine stays dead, on average

Work: TypeAlias = Callable[[Connection], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Action:
    """`number` among all of its plan; what it does is chosen by the seed and that."""

    number: int
    at: float  # seconds since the history began
    name: str

    def __str__(self) -> str:
        return f"{self.number}:{self.name}@{self.at:.1f}"


def plan(seed: Seed) -> list[Action]:
    """A history's actions, in the order of their times.

    What is frequent in one history is rare in another, or never happens ("swarm testing", Groce et
    al. 2012): so that what must come together does.
    """
    choices = seed.stream("plan")
    at, actions = 0.0, []
    often = {name: weight * choices.choice(SWARM) for name, weight in WEIGHTS.items()}
    names, weights = zip(*{**often, "mine": WEIGHTS["mine"]}.items(), strict=True)
    for number in range(choices.randint(*ACTIONS)):
        at += choices.expovariate(1 / APART_SECONDS)
        actions.append(Action(number, at, choices.choices(names, weights)[0]))
    return actions


def act(world: World, action: Action) -> None:
    """Begin an action."""
    _ACTS[action.name](world, world.seed.stream(f"action {action.number}"))


def begin(world: World) -> None:
    """What every history begins with: owners, an endpoint, and machines that start."""
    choices = world.seed.stream("begin")
    for machine in MACHINES[: choices.randint(1, len(MACHINES))]:
        world.start(machine)
    while not world.has_begun():
        world.go_on(START_SECONDS)
    register(world, "alice", world.payments.own, "own")
    for address in world.addresses[:2]:
        register(world, "alice", address)
    add_endpoint(world, "alice")


# ------------------------------------------------------------------------------ the chain


def _mine(world: World, choices: Random) -> None:
    world.payments.block(choices)
    _spread(world, choices)


def _fork(world: World, choices: Random) -> None:
    """Never deeper than what is final for somebody: that halts, and has its own test."""
    head = world.chain.head.number
    world.final = max(world.final, head - FINAL_DEPTH)
    depth = min(choices.randint(1, FINAL_DEPTH - 1), head - world.final)
    if depth > 0:
        world.payments.fork(choices, depth, choices.randrange(3))
        world.faults["fork"] += 1
    _spread(world, choices)


def _spread(world: World, choices: Random) -> None:
    world.final = max(world.final, world.chain.head.number - FINAL_DEPTH)
    for node in world.nodes:
        if not node.stuck and choices.random() < 0.8:
            node.sync(choices.choice((0, 0, 0, 1, 2)))


def _stick(world: World, choices: Random) -> None:
    node = choices.choice(world.nodes)
    node.stuck = True
    world.faults["node falls behind"] += 1
    world.later(choices.expovariate(1 / LYING_SECONDS), lambda: _unstick(node))


def _unstick(node: nodes.Node) -> None:
    node.stuck = False
    node.sync()


def _lie(world: World, choices: Random) -> None:
    node = choices.choice(world.nodes)
    node.mood = choices.choice(nodes.LIES)
    world.later(choices.expovariate(1 / LYING_SECONDS), lambda: _be_honest(node))


def _be_honest(node: nodes.Node) -> None:
    node.mood = nodes.Mood.HONEST


# ------------------------------------------------------------------------------ machines


def _start(world: World, choices: Random) -> None:
    world.start(choices.choice(MACHINES))


def _crash(world: World, choices: Random) -> None:
    """In some steps' time, that is between any two awaits; it is started again later."""
    machine = choices.choice(MACHINES)
    if machine in world.processes:
        world.processes[machine].steps_left = int(choices.expovariate(1 / 150)) + 1
    world.later(choices.expovariate(1 / DOWN_SECONDS), lambda: world.start(machine))


def _stop(world: World, choices: Random) -> None:
    """As an operator asks for it: what is in hand is finished."""
    machine = choices.choice(MACHINES)
    if machine in world.processes:
        world.stop(machine)


def _pause(world: World, choices: Random) -> None:
    """In some steps' time, or when it has sent something; for longer than a lease, or not."""
    process = world.processes.get(choices.choice(MACHINES))
    if process is not None:
        process.nap = choices.choice((choices.uniform(0.3, 10.0), choices.uniform(21.0, 45.0)))
        process.steps_awake = int(choices.expovariate(1 / 60)) if choices.random() < 0.5 else None


def _lose(world: World, choices: Random) -> None:
    process = world.processes.get(choices.choice(MACHINES))
    if process is not None:
        process.lost = int(choices.expovariate(1 / 40)), choices.choice(tuple(Lost))


def _set_clock(world: World, choices: Random) -> None:
    """A machine's to any time; the database's, which judges leases, only back."""
    if choices.random() < 0.7:
        seconds = choices.choice((-1, 1)) * 10 ** choices.uniform(0, 6)
        world.time.wrong[choices.choice(MACHINES)] = seconds
        world.faults["machine's clock jumps"] += 1
    else:
        world.time.database_wrong -= choices.uniform(0.0, 5.0)
        world.faults["database's clock jumps"] += 1


# ------------------------------------------------------------------------------ receivers


def _mood(world: World, choices: Random) -> None:
    if not world.receivers:
        return
    receiver = choices.choice(list(world.receivers.values()))
    receiver.mood = choices.choice(tuple(receivers.Mood))
    if receiver.mood is not receivers.Mood.WELL:
        world.faults[f"receiver {receiver.mood.value}"] += 1
    world.later(choices.expovariate(1 / LYING_SECONDS), lambda: _be_well(receiver))


def _be_well(receiver: Receiver) -> None:
    receiver.mood = receivers.Mood.WELL


# ------------------------------------------------------------------------------ owners, operators


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
    _register(world, account, coverage.NewAddress(address, role=role), silent=False)


def _register(world: World, account: str, address: coverage.NewAddress, *, silent: bool) -> None:
    async def work(connection: Connection) -> None:
        await coverage.register_addresses(connection, NETWORK, account, [address], silent=silent)

    _own(world, work)


def _register_some(world: World, choices: Random) -> None:
    from_block = choices.choice((None, None, choices.randrange(world.chain.head.number + 2)))
    role = choices.choice((None, None, None, None, None, "deposit", "own"))
    address = coverage.NewAddress(choices.choice(world.addresses), None, from_block, role)
    _register(world, choices.choice(ACCOUNTS), address, silent=choices.random() < 0.2)


def _remove(world: World, choices: Random) -> None:
    account, address = choices.choice(ACCOUNTS), choices.choice(world.addresses)

    async def work(connection: Connection) -> None:
        await coverage.remove_address(connection, NETWORK, account, address)

    _own(world, work)


def _list_coin(world: World, choices: Random) -> None:
    number = choices.randrange(len(world.payments.tokens))
    asset = world.payments.tokens[number]
    from_block = choices.choice((None, choices.randrange(world.chain.head.number + 2)))
    coin = coins.NewCoin(f"tok{number}", NETWORK, asset, "Token", "TOK", 6, from_block=from_block)

    async def work(connection: Connection) -> None:
        await coins.register_coin(connection, coin)

    _own(world, work)


def _change_coin(world: World, choices: Random) -> None:
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


def _review(world: World, choices: Random) -> None:
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


def _rewind(world: World, choices: Random) -> None:
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


def _add_endpoint(world: World, choices: Random) -> None:
    if len(world.receivers) < 3:
        add_endpoint(world, choices.choice(ACCOUNTS))


def _hold_endpoint(world: World, choices: Random) -> None:
    """Its owner pauses it; later it goes on."""
    if not world.receivers:
        return
    endpoint = choices.choice([each.endpoint for each in world.receivers.values()])

    async def pause(connection: Connection) -> None:
        await endpoints.pause(connection, endpoint)

    async def resume(connection: Connection) -> None:
        await endpoints.resume(connection, endpoint)

    _own(world, pause)
    world.later(choices.expovariate(1 / LYING_SECONDS), lambda: _own(world, resume))


Act: TypeAlias = Callable[[World, Random], None]

_ACTS: Final[Mapping[str, Act]] = {
    "mine": _mine,
    "fork": _fork,
    "stick": _stick,
    "lie": _lie,
    "start": _start,
    "crash": _crash,
    "stop": _stop,
    "pause": _pause,
    "lose": _lose,
    "clock": _set_clock,
    "mood": _mood,
    "register": _register_some,
    "remove": _remove,
    "coin": _list_coin,
    "change": _change_coin,
    "review": _review,
    "rewind": _rewind,
    "endpoint": _add_endpoint,
    "hold": _hold_endpoint,
}
WEIGHTS: Final[Mapping[str, int]] = {
    "mine": 24,
    "fork": 6,
    "stick": 2,
    "lie": 4,
    "start": 2,
    "crash": 5,
    "stop": 1,
    "pause": 3,
    "lose": 4,
    "clock": 1,
    "mood": 3,
    "register": 5,
    "remove": 2,
    "coin": 2,
    "change": 2,
    "review": 1,
    "rewind": 1,
    "endpoint": 1,
    "hold": 1,
}
