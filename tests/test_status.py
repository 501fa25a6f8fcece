"""How networks and deliveries stand, told so that a person at a terminal can act on it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import asyncpg
import pytest

from indexer import status
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.harness.terminal import Terminal

KEY: Final = "a secret key of the tests"


async def a_network(pool: asyncpg.Pool, state: str, silent: int, reason: str | None = None) -> None:
    await pool.execute(
        """
        insert into network (id, family, state, reason, updated_at)
        values ('net', 'evm', $1, $2, clock() - make_interval(secs => $3))
        """,
        state,
        reason,
        silent,
    )


@pytest.mark.parametrize(
    ("state", "silent", "reason", "told"),
    [
        ("following", 59, None, ("following", None)),
        (
            "following",
            75,
            None,
            ("unreachable", "no process has spoken of it for 75 s; then it was following"),
        ),
        (
            "halted",
            75,
            "rewind it",
            ("unreachable", "no process has spoken of it for 75 s; then it was halted: rewind it"),
        ),
        ("refused", 9_000, "wrong chain", ("refused", "wrong chain")),  # said once, and true since
    ],
)
async def test_a_network_of_which_nobody_speaks_is_not_told_as_if_it_were_followed(
    pool: asyncpg.Pool, state: str, silent: int, reason: str | None, told: tuple[str, str | None]
) -> None:
    await a_network(pool, state, silent, reason)
    [network] = await status.networks(pool)
    assert (network["state"], network["reason"]) == told


async def test_what_ails_a_network_stands_below_the_table_and_what_is_owed_after_it(
    pool: asyncpg.Pool, dsn: str, vault: Vault, tmp_path: Path
) -> None:
    terminal = Terminal(tmp_path)
    terminal.write(f'database = "{dsn}"\nsecret_key = "{KEY}"\n')
    said = (await terminal.run("status")).out
    assert said.split("\n\n") == [
        "no network has started yet",
        "deliveries: due 0  retrying 0  held 0  exhausted 0\n",
    ]
    await a_network(pool, "halted", 5, "its branch leaves ours: " + "long " * 30)
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 2)
    await pool.execute("update endpoint set state = 'paused'")
    table, ill, owed, advice = (await terminal.run("status")).out.split("\n\n")
    header, line = table.splitlines()
    assert len(line) <= len(header) + 20
    told = dict(zip(header.split(), line.split(), strict=True))
    assert (told["NETWORK"], told["STATE"], told["LEADER"]) == ("net", "halted", "-")
    assert 5 <= float(line.split()[header.split().index("SECONDSAGO")]) < 60
    assert ill.startswith("net: its branch leaves ours")
    assert owed == "deliveries: due 0  retrying 0  held 2  exhausted 0"
    assert advice.startswith("held: their endpoints are paused or disabled")
