"""What the README tells operators to type, typed at an installation that needs it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import pytest

from indexer.devnet.evm_chain import SimulatedChain
from indexer.model import make_id
from indexer.postgres import wheel_bin_dirs
from tests.harness.engine import free_port
from tests.harness.terminal import Node, Terminal, settings, until
from tests.readme import commands

PAGE: Final = "When something happens"
BLOCKS: Final = 12
ADMIN: Final = "ADMIN-KEY-0123456789"
DEPOSIT: Final = make_id("dep_", "held")
TOOL_SECONDS: Final = 30.0
ROLES: Final = ("--role", "api,follower")  # nobody is called
# A deposit that is held, and an event of it whose delivery was given up.
GIVEN_UP: Final = """
    insert into deposit (id, account, network, tx, address, asset, ordinal, coin, units, height,
                         hash, time, required, first_state, first_reason, state, reason, sequence,
                         counts)
    values ('{deposit}', 'shop', 'ethereum', '\\x01', '\\x02', '', 0, 'eth', 5, 9,
            (select hash from block where height = 9), clock(), 2, 'held', 'coin_inactive', 'held',
            'coin_inactive', 1, '{{0,0,0,0,1,0}}');
    insert into total values ('shop', 'eth', 0, 5, 0);
    insert into deposit_count values ('ethereum', 'held', 1);
    update account set position = 1 where id = 'shop';
    insert into event (id, account, position, deposit, sequence, type, body)
    values ('evt_1', 'shop', 1, '{deposit}', 1, 'deposit.held', '{{}}');
    select make_deliveries('{{evt_1}}');
    select end_deliveries(array(select id from delivery), 'exhausted', 'attempts');
"""


class Site:
    """The installation: its API, its database, and what the page's variables stand for."""

    def __init__(self, terminal: Terminal, dsn: str) -> None:
        self.terminal = terminal
        self.dsn = dsn
        self.port = free_port()
        self.variables = {"DATABASE": dsn, "ADMIN": ADMIN, "DEPOSIT": DEPOSIT}

    def filled(self, words: list[str]) -> list[str]:
        yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return [
            re.sub(r"\$([A-Z]+)", lambda name: self.variables[name[1]], word)
            .replace("localhost:8080", f"127.0.0.1:{self.port}")
            .replace("2026-11-20T00:00:00Z", yesterday)
            for word in words
        ]

    async def ask(self, method: str, path: str, key: str = ADMIN, body: object = None) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method,
                f"http://127.0.0.1:{self.port}{path}",
                headers={"X-Api-Key": key},
                json=body,
            ) as response,
        ):
            assert response.status < 300, await response.text()
            return await response.json() if response.content_length else None

    async def curl(self, words: list[str]) -> Any:
        options, rest = {"-X": "GET", "-H": "", "--json": ""}, iter(words)
        url = ""
        for word in rest:
            if word in options:
                options[word] = next(rest)
            else:
                url = word
        body = json.loads(options["--json"]) if options["--json"] else None
        method = "POST" if body is not None and options["-X"] == "GET" else options["-X"]
        path = url.removeprefix(f"127.0.0.1:{self.port}")
        return await self.ask(method, path, options["-H"].removeprefix("X-Api-Key: "), body)

    async def tool(self, program: str, words: list[str]) -> None:
        """One of PostgreSQL's programs, of the newest major, as the server is."""
        process = await asyncio.create_subprocess_exec(
            wheel_bin_dirs()[-1] / program,
            *self.filled(words),
            cwd=self.terminal.folder,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), TOOL_SECONDS)
        assert process.returncode == 0, said.decode()

    async def follows(self) -> None:
        async def there() -> bool:
            try:
                networks = (await self.ask("GET", "/v1/networks"))["items"]
            except aiohttp.ClientConnectionError:
                return False
            return [(n["state"], n["cursor"]) for n in networks] == [("following", BLOCKS)]

        await until(there)

    async def begin(self) -> None:
        """An account with a key and an endpoint, and what was given up."""
        await self.ask("POST", "/v1/accounts", body={"name": "Shop", "id": "shop"})
        made = await self.ask("POST", "/v1/accounts/shop/keys", body={"scopes": ["read", "write"]})
        self.variables["KEY"] = made["key"]
        endpoint = {"url": "http://127.0.0.1:1/"}  # no dispatcher runs: nobody is called
        made = await self.ask("POST", "/v1/endpoints", self.variables["KEY"], endpoint)
        self.variables["ENDPOINT"] = made["id"]
        database = await asyncpg.connect(self.dsn)
        await database.execute(GIVEN_UP.format(deposit=DEPOSIT))
        await database.close()


def pages() -> Iterator[tuple[str, list[str]]]:
    """Each command of the page, the first word apart."""
    for first, *rest in commands(PAGE):
        yield Path(first).name, rest


@pytest.mark.timeout(180)
async def test_each_command_of_the_page_does_what_it_says(tmp_path: Path, empty_dsn: str) -> None:
    chain = SimulatedChain(1, finality=8)
    for _ in range(BLOCKS):
        chain.mine()
    async with Node(chain) as node:
        site = Site(Terminal(tmp_path), empty_dsn)
        table = settings(
            {"ethereum": [node.address]},
            port=site.port,
            database=empty_dsn,
            coin="eth",
            reorg_window=128,
        )
        site.terminal.write(table + "[callbacks]\nallow_private = true\nallow_http = true\n")
        todo = list(pages())
        backup, empty, restore, check, run, *others = todo
        assert [program for program, _ in (backup, empty, restore)] == [
            *("pg_dump", "psql", "pg_restore")
        ]
        async with site.terminal.running("run", *ROLES) as process:
            await site.follows()
            await site.begin()
            await site.tool(*backup)
            await site.ask("POST", "/v1/accounts", body={"name": "After the backup", "id": "late"})
            process.terminate()
            await process.wait()
        await site.tool(*empty)
        await site.tool(*restore)
        await site.terminal.run(*check[1])
        async with site.terminal.running(*run[1], *ROLES):
            await site.follows()
            accounts = (await site.ask("GET", "/v1/accounts"))["items"]
            assert [each["id"] for each in accounts] == ["shop"]
            answers = [await carried_out(site, *each) for each in others]
        await checked(empty_dsn, answers)


async def carried_out(site: Site, program: str, words: list[str]) -> Any:
    filled = site.filled(words)
    if program == "curl":
        answer = await site.curl(filled)
        if "exhausted" in filled[-1] and "items" in answer:
            site.variables["DELIVERY"] = answer["items"][0]["id"]
        return answer
    assert program == "depositd"
    said = await site.terminal.run(*["10" if word == "1200" else word for word in filled])
    return said.out


async def checked(dsn: str, answers: list[Any]) -> None:
    status, rewound, given_up, delivery, _, resent, *_, held, _, _ = answers
    assert "following" in status
    assert "ethereum" in rewound
    [exhausted] = given_up["items"]
    assert (exhausted["state"], delivery["id"]) == ("exhausted", exhausted["id"])
    assert resent["count"] == 0  # it is on its way again by the command before
    assert [each["id"] for each in held["items"]] == [DEPOSIT]
    database = await asyncpg.connect(dsn)
    row: Mapping[str, Any] = await database.fetchrow(
        """
        select (select state::text from deposit) as deposit,
               (select confirmations from coin) as confirmations,
               (select status::text from coin) as coin, (select count(*) from delivery) as waiting
        """
    )
    await database.close()
    assert dict(row) == {
        "deposit": "rejected", "confirmations": 100, "coin": "active", "waiting": 2,
    }  # fmt: skip
