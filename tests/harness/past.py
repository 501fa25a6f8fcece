"""A simulated network with a past: mined with reorganisations, registered, followed, asked."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from indexer import cli, config, coverage, log, origin
from indexer.chains import Chain
from indexer.chains.families import open_chain
from indexer.coins import NewCoin, register_coin
from indexer.database import connect_pool
from indexer.devnet.simulation import Simulation
from indexer.devnet.simulations import simulations
from indexer.follower import Follower, Outcome
from indexer.watchset import WatchSet
from tests.conftest import SECRET_KEY
from tests.harness.terminal import Said, Terminal

ACCOUNT: Final = "shop"
FROM: Final = 1  # the first block that is covered
FAMILIES: Final = ("evm", "tron", "utxo")

# All of a standing deposit that a database filled by a recording has alike.
STANDING: Final = """
    select id, account, tx, address, asset, ordinal, coin, units, sender, height, hash, time,
           required, maturity, state, reason, first_state, first_reason
      from deposit where state <> 'orphaned' order by id
"""


@dataclass
class Past:
    """One network on one database, as somebody at a terminal has it."""

    simulation: Simulation
    settings: config.Network
    terminal: Terminal
    pool: asyncpg.Pool

    @property
    def id(self) -> str:
        return self.settings.id

    @property
    def head(self) -> int:
        return self.simulation.head

    @property
    def range(self) -> tuple[str, ...]:
        """The arguments of a command about all its covered blocks."""
        return (self.id, "--from", str(FROM), "--to", str(self.head))

    async def register(self) -> None:
        """An account, every coin, and every address; the last is the account's own wallet."""
        traffic = self.simulation.traffic
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute("insert into account (id, name) values ($1, $1)", ACCOUNT)
            for number, asset in enumerate(traffic.assets):
                name = f"{self.id}_{number}"
                coin = NewCoin(name, self.id, asset, name, name.upper(), 6, from_block=FROM)
                await register_coin(connection, coin)
            *deposits, own = traffic.addresses
            for role, keys in (("deposit", deposits), ("own", [own])):
                await coverage.register_addresses(
                    connection,
                    self.id,
                    ACCOUNT,
                    [coverage.NewAddress(key, from_block=FROM, role=role) for key in keys],
                    silent=False,
                )

    async def live(self, steps: int) -> None:
        """Mine and reorganise, and follow what comes; what is registered is so from the start."""
        chain = open_chain(self.id, self.settings)
        try:
            await self.begin(chain)
            follower = self._follower(chain)
            for _ in range(steps):
                self.simulation.step()
                while await follower.step() is not Outcome.IDLE:
                    pass
            # Another one asks at once what is final.
            while await self._follower(chain).step() is not Outcome.IDLE:
                pass
        finally:
            await chain.close()

    def _follower(self, chain: Chain) -> Follower:
        watch = WatchSet(self.id, self.settings.reorg_window)
        return Follower(self.id, self.settings, chain, self.pool, watch)

    async def begin(self, chain: Chain) -> None:
        await self.pool.execute(
            "insert into network (id, family) values ($1, $2)", self.id, self.settings.family
        )
        await origin.identify(self.pool, self.id, await chain.connect())
        await origin.begin(self.pool, chain, self.id, self.settings)
        await self.register()

    async def command(self, *arguments: str, code: int = 0) -> Said:
        """See below."""
        return await command(self.terminal, *arguments, code=code)

    async def standing(self) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self.pool.fetch(STANDING)
        return rows

    async def events(self) -> int:
        count: int = await self.pool.fetchval("select count(*) from event")
        return count


async def register_alike(there: asyncpg.Connection, here: asyncpg.Pool) -> None:
    """Accounts, tokens and addresses of another database, covered as they are there."""
    async with here.acquire() as connection, connection.transaction():
        for row in await there.fetch("select id, name from account"):
            await connection.execute("insert into account (id, name) values ($1, $2)", *row)
        for row in await there.fetch("select * from coin where asset <> ''"):
            kept = ("id", "network", "asset", "name", "symbol", "decimals", "balance_check")
            values = {name: row[name] for name in kept}
            await register_coin(connection, NewCoin(**values, from_block=row["covered_from"]))
        for row in await there.fetch("select * from watched_address"):
            address = coverage.NewAddress(
                row["address"], row["reference"], row["covered_from"], row["role"]
            )
            await coverage.register_addresses(
                connection, row["network"], row["account"], [address], silent=False
            )


async def lose(connection: asyncpg.Connection | asyncpg.Pool, deposit: str) -> None:
    """Delete a deposit with its events, as a careless hand might."""
    await connection.execute("delete from event where deposit = $1", deposit)
    await connection.execute("delete from deposit where id = $1", deposit)


@asynccontextmanager
async def past(family: str, dsn: str, folder: Path, steps: int = 0) -> AsyncIterator[Past]:
    """A node of a family with so many steps of traffic, followed on a database."""
    [simulation] = [each for each in simulations() if each.id == family]
    async with simulation.node as node, site(simulation, node.url, dsn, folder) as made:
        if steps:
            await made.live(steps)
        yield made


@asynccontextmanager
async def site(simulation: Simulation, url: str, dsn: str, folder: Path) -> AsyncIterator[Past]:
    """The same network by settings of its own on another database, where nothing is yet."""
    terminal = opened(folder, toml(dsn, {simulation.id: {**simulation.rules, "endpoints": [url]}}))
    read = config.load(folder / "depositd.toml", {})
    pool = await connect_pool(dsn)
    try:
        yield Past(simulation, read.networks[simulation.id], terminal, pool)
    finally:
        await pool.close()


async def command(terminal: Terminal, *arguments: str, code: int = 0) -> Said:
    """What a command says in this process, which is faster; Refused and Unavailable are raised."""
    out = io.StringIO()
    file = str(terminal.folder / "depositd.toml")
    chosen = cli.parser().parse_args([*arguments, "-c", file])
    log.configure(quiet=True)
    with redirect_stdout(out):
        said = Said(await chosen.act(chosen, {}), out.getvalue(), "")
    assert said.code == code, said
    return said


def opened(folder: Path, text: str) -> Terminal:
    """A terminal in a folder with these settings."""
    folder.mkdir(exist_ok=True)
    terminal = Terminal(folder)
    terminal.write(text)
    return terminal


def toml(dsn: str, networks: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"database = {json.dumps(dsn)}", f"secret_key = {json.dumps(SECRET_KEY)}"]
    for name, table in networks.items():
        lines.append(f"[networks.{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
