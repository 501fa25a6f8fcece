"""What happens in a history: blocks and forks, owners and operators, and what goes wrong.

A history's plan is a list of actions with their times. Each makes its own choices, so that a plan
of which some are left out is the same history without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, TypeAlias

from indexer.coverage import NewAddress
from tests.simulation import nodes, owners, receivers
from tests.simulation.database import Lost
from tests.simulation.receivers import Receiver
from tests.simulation.seed import Seed
from tests.simulation.world import ACCOUNTS, FINAL_DEPTH, MACHINES, Process, World

ACTIONS: Final = (12, 36)  # of a history, at least and at most
SWARM: Final = (0.0, 0.3, 1.0, 4.0)  # times an action's weight
START_SECONDS: Final = 0.25  # between two looks whether a follower has begun
APART_SECONDS: Final = 1.5  # on average
LYING_SECONDS: Final = 12.0  # that a node, or a receiver, keeps a mood, on average
DOWN_SECONDS: Final = 6.0  # that a machine stays dead, on average
LOST: Final = 0.2  # part of a fork's transactions that it takes away, and as many that wait
AMBUSH_LOST: Final = 0.8
AMBUSH_LOOKS: Final = 60  # whether the scan that a fork waits for has begun
AMBUSH_LOOK_SECONDS: Final = 0.2
AMBUSH_SECONDS: Final = 2.5  # from there to the fork, at most
OVERTAKEN_SECONDS: Final = (10.0, 20.0)  # that a process stands still: it may lose its lease
SLOW_SECONDS: Final = (0.3, 1.0, 2.0)  # that a database takes at most for an answer far away
SLOW_LASTS_SECONDS: Final = 12.0


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
    owners.register(world, "alice", world.payments.own, "own")
    for address in world.addresses[:2]:
        owners.register(world, "alice", address)
    owners.add_endpoint(world, "alice")


# ------------------------------------------------------------------------------ the chain


def _mine(world: World, choices: Random) -> None:
    world.payments.block(choices)
    _spread(world, choices)


def _fork(world: World, choices: Random) -> None:
    _branch_off(world, choices, choices.randint(1, FINAL_DEPTH - 1), choices.randrange(3), LOST)
    _spread(world, choices)


def _branch_off(world: World, choices: Random, depth: int, longer: int, lost: float) -> None:
    """Never deeper than what is final for somebody: that halts, and has its own test."""
    head = world.chain.head.number
    world.final = max(world.final, head - FINAL_DEPTH)
    if (possible := min(depth, head - world.final)) > 0:
        world.payments.fork(choices, possible, longer, lost)
        world.faults["fork"] += 1


def _ambush(world: World, choices: Random) -> None:
    """Addresses are registered some blocks back; as these are read again, a fork takes them away.

    Whoever reads them is far from its database by then.
    """
    depth = choices.randint(2, FINAL_DEPTH - 1)
    _register_back(world, choices, depth)

    def strike() -> None:
        _branch_off(world, choices, depth, choices.randint(1, 2), AMBUSH_LOST)
        _spread(world, choices)

    def lie_in_wait() -> None:
        world.faults["fork under a slow scan"] += 1
        world.later(choices.random() * AMBUSH_SECONDS, strike)

    _when_read_again(world, choices, lie_in_wait)


def _join(world: World, choices: Random) -> None:
    """Addresses are registered some blocks back; as these are read again, others are.

    Whoever reads them is far from its database by then, and looks for the first only.
    """
    depth = choices.randint(2, FINAL_DEPTH - 1)
    _register_back(world, choices, depth)

    def join() -> None:
        world.faults["registration under a slow scan"] += 1
        _register_back(world, choices, depth)

    _when_read_again(world, choices, join)


def _register_back(world: World, choices: Random, depth: int) -> None:
    """Some addresses, from so many blocks below the head on."""
    first = max(0, world.chain.head.number + 1 - depth)
    some = choices.sample(world.addresses, choices.randint(1, 3))
    account = choices.choice(ACCOUNTS)
    owners.register_all(world, account, [NewAddress(each, None, first) for each in some])


def _when_read_again(world: World, choices: Random, act: Callable[[], None]) -> None:
    """Do something as soon as a machine reads past blocks, which takes it long from then on."""

    def wait(looks: int) -> None:
        if (machine := world.scanner()) is not None:
            _slow_down(world, choices, machine)
            act()
        elif looks:
            world.later(AMBUSH_LOOK_SECONDS, lambda: wait(looks - 1))

    wait(AMBUSH_LOOKS)


def _overtake(world: World, choices: Random) -> None:
    """A block pays a new address, which one machine activates while another is about to commit it.

    That one stands still meanwhile, maybe until it has lost its lease; and no node knows the block
    any more, so that nobody else commits it.
    """
    address, account = choices.randbytes(20), choices.choice(ACCOUNTS)
    seconds = choices.uniform(*OVERTAKEN_SECONDS)
    world.truth.add(address)
    world.payments.block(choices, address)
    _spread(world, choices)

    def strike(process: Process) -> None:
        process.nap = seconds
        world.pause(process)
        world.faults["commit is overtaken by an activation"] += 1
        owners.register(world, account, address)
        for machine in MACHINES:
            world.start(machine)
        behind = world.chain.head.number - world.cursor("height")
        for node in world.nodes:
            node.stuck = True
            node.sync(behind)
            world.later(seconds + 1, partial(_unstick, node))

    world.waylaid[world.chain.head.hash] = strike


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
    """In some steps' time, or when it has sent something; for longer than a lease, or not.

    What it has sent is due again meanwhile, to a receiver that may take it from nobody.
    """
    process = world.processes.get(choices.choice(MACHINES))
    if process is not None:
        process.nap = choices.choice((choices.uniform(0.3, 10.0), choices.uniform(10.0, 30.0)))
        process.steps_awake = int(choices.expovariate(1 / 60)) if choices.random() < 0.5 else None
        if process.steps_awake is None:
            _upset(world, choices, process.nap + choices.expovariate(1 / LYING_SECONDS))


def _lose(world: World, choices: Random) -> None:
    process = world.processes.get(choices.choice(MACHINES))
    if process is not None:
        process.lost = int(choices.expovariate(1 / 40)), choices.choice(tuple(Lost))


def _slow(world: World, choices: Random) -> None:
    _slow_down(world, choices, choices.choice(MACHINES))


def _slow_down(world: World, choices: Random, machine: str) -> None:
    """Its transactions are open for long, so that others' overlap with them."""
    world.slow[machine] = choices.choice(SLOW_SECONDS)
    world.faults["database far away"] += 1
    world.later(SLOW_LASTS_SECONDS, partial(_hasten, world, machine))


def _hasten(world: World, machine: str) -> None:
    """Its database is near again."""
    world.slow.pop(machine, None)


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
    _upset(world, choices, choices.expovariate(1 / LYING_SECONDS))


def _upset(world: World, choices: Random, seconds: float) -> None:
    """A receiver has a mood for a while."""
    if not world.receivers:
        return
    receiver = choices.choice(list(world.receivers.values()))
    receiver.mood = choices.choice(tuple(receivers.Mood))
    if receiver.mood is not receivers.Mood.WELL:
        world.faults[f"receiver {receiver.mood.value}"] += 1
    world.later(seconds, lambda: _be_well(receiver))


def _be_well(receiver: Receiver) -> None:
    receiver.mood = receivers.Mood.WELL


Act: TypeAlias = Callable[[World, Random], None]

_ACTS: Final[Mapping[str, Act]] = {
    "mine": _mine,
    "fork": _fork,
    "ambush": _ambush,
    "join": _join,
    "overtake": _overtake,
    "stick": _stick,
    "lie": _lie,
    "start": _start,
    "crash": _crash,
    "stop": _stop,
    "pause": _pause,
    "lose": _lose,
    "slow": _slow,
    "clock": _set_clock,
    "mood": _mood,
    "register": owners.register_some,
    "remove": owners.remove,
    "coin": owners.list_coin,
    "change": owners.change_coin,
    "review": owners.decide,
    "rewind": owners.rewind,
    "endpoint": owners.add_some_endpoint,
    "hold": owners.hold_endpoint,
}
WEIGHTS: Final[Mapping[str, int]] = {
    "mine": 24,
    "fork": 6,
    "ambush": 5,
    "join": 4,
    "overtake": 4,
    "stick": 2,
    "lie": 4,
    "start": 2,
    "crash": 5,
    "stop": 1,
    "pause": 5,
    "lose": 4,
    "slow": 3,
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
