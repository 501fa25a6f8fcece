"""One history: a world that is begun, lived through, brought to rest, and held to its promises."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from tests.simulation import actions
from tests.simulation.actions import Action
from tests.simulation.loop import PROCESS, WORLD
from tests.simulation.promises import Broken, Promise
from tests.simulation.seed import Seed
from tests.simulation.sessions import Server
from tests.simulation.world import ACCOUNTS, World

SETTLING_SECONDS: Final = 600.0  # virtual ones, for all to come to rest
LOOK_SECONDS: Final = 2.0  # virtual ones, between two looks whether it has
# All but what belongs to the installation, to be as a new database is: what deleted rows leave
# behind would decide where the next ones go, and so in which order they come.
EMPTYING: Final = """
    select 'truncate ' || string_agg(quote_ident(tablename), ', ') || ' restart identity' as all
      from pg_tables
     where schemaname = 'public' and tablename not in ('installation', 'schema_step')
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a history ended."""

    seed: int
    actions: tuple[Action, ...]
    without: frozenset[int]  # actions that were left out
    broken: Broken | None
    trace: str  # the same for the same history
    steps: int
    calls: int  # of the database
    waits: int  # of those, for locks
    seconds: float  # virtual ones
    faults: Counter[str]
    checked: Counter[Promise]
    log: tuple[str, ...]

    @property
    def promise(self) -> Promise | None:
        """The one that was broken."""
        return None if self.broken is None else self.broken.promise


def run(number: int, server: Server, without: frozenset[int] = frozenset()) -> Ended:
    """Live through the history of a seed, or through it without some of its actions."""
    seed = Seed(number)
    chosen = [each for each in actions.plan(seed) if each.number not in without]
    empty(server)
    world = World(seed, server)
    problem: Broken | None = None
    with world.running(), _overheard(world):
        try:
            _live(world, chosen)
            _rest(world)
            world.promises.hold_in_the_end()
        except Broken as broken:
            problem = broken
        finally:
            _end(world)
    return _ended(world, chosen, without, problem)


def empty(server: Server) -> None:
    """Forget the history before."""
    [emptying] = server.ask(EMPTYING)
    server.execute(f"set session_replication_role = replica; {emptying['all']}")
    server.forget_times()
    server.ask("insert into account (id, name) select id, id from unnest($1::text[]) id", ACCOUNTS)


def _live(world: World, chosen: Collection[Action]) -> None:
    actions.begin(world)
    for action in chosen:
        world.go_on(action.at - world.loop.now)
        actions.act(world, action)
        world.promises.look()


def _rest(world: World) -> None:
    """Everybody is well again and has time: what was promised for the end must come true."""
    world.calm()
    world.go_on(LOOK_SECONDS)
    until = world.loop.now + SETTLING_SECONDS
    while unrest := world.unrest():
        if world.loop.now > until:
            raise Broken(Promise.LIFE, f"no rest: {unrest}")
        world.calm()
        world.go_on(LOOK_SECONDS)


def _end(world: World) -> None:
    """Nobody is left, and the server is as idle as before."""
    for machine in list(world.processes):
        world.kill(machine)
    for name in ("owner", WORLD):
        world.loop.kill(name)
    world.owner.die()
    world.loop.close()


@contextmanager
def _overheard(world: World) -> Iterator[None]:
    """Every line of the log is held against the secrets, and dropped."""

    def listen(_: Any, level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        text = repr(line)
        world.promises.checked[Promise.SECRETS] += 1
        if any(secret in text for secret in world.secrets):
            world.problem(Promise.SECRETS, f"the log shows a secret: {line['event']}")
        world.database.note(level, text)
        world.log.append(f"{world.loop.now:9.3f} {PROCESS.get():8} {level} {text}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[listen],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _ended(
    world: World, chosen: Collection[Action], without: frozenset[int], broken: Broken | None
) -> Ended:
    for node in world.nodes:
        for mood, times in node.told.items():
            world.faults[f"node {mood.value}"] += times
    return Ended(
        seed=world.seed.number,
        actions=tuple(chosen),
        without=without,
        broken=broken,
        trace=world.database.trace,
        steps=world.loop.steps,
        calls=world.database.calls,
        waits=world.database.waits,
        seconds=world.loop.now,
        faults=+world.faults,
        checked=world.promises.checked,
        log=tuple(world.log),
    )
