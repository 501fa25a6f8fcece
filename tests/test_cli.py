"""Commands from the outside: right and wrong, and what they leave behind.

Bad input is one line on stderr and exit 2, a database out of reach exit 3, what can't be done now
exit 1; stdout has the result and nothing else; no traceback and no secret anywhere.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from indexer import cli
from indexer.devnet.evm_chain import SimulatedChain
from tests.conftest import Server
from tests.harness.terminal import COMMAND, SECRETS, Node, Terminal, settings

NOWHERE: Final = "http://127.0.0.1:1"
AT_ONCE: Final = 3  # commands
PRIVILEGED: Final = os.geteuid() == 0
USER: Final = 54321  # of nobody

COMMANDS: Final = (
    (),
    ("demo",),
    ("init",),
    ("check",),
    ("run",),
    ("status",),
    ("explain",),
    ("replay",),
    ("record",),
    ("rewind",),
    ("listen",),
    ("account",),
    ("account", "create"),
    ("key",),
    ("key", "create"),
)
# What is wrong, and a word of the sentence that says so.
MISSPELT: Final = {
    "": "COMMAND",
    "dance": "dance",
    "account": "COMMAND",
    "account create": "NAME",
    "demo --blocks many": "--blocks",
    "demo --json": "--json",
    "explain sim": "TXHASH",
    "rewind sim high": "HEIGHT",
    "status --jso": "--jso",
}
WRONG: Final = {
    "": "COMMAND",
    "demo --blocks 0": "1 or more",
    "init .": "exists already",
    "init nowhere/at.toml": "No such file",
    "run -c nothing.toml": "nothing.toml can't be read",
    "run -c .": "Is a directory",
    "run --role cook": "no role 'cook'",
    "run --network moon": "there are: sim",
    "explain moon 0x12": "there are: sim",
    "explain sim 0x12": "hash",
    "rewind moon 5": "there are: sim",
    "key create": "--admin",
    "key create --admin --scope read": "--scope",
    "status -c broken.toml": "broken.toml is not TOML",
    "run -c empty.toml": "none is configured",
    "check -c typo.toml": "did you mean `database`",
}


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    tmp_path.chmod(0o755)
    terminal = Terminal(tmp_path)
    terminal.write(settings({"sim": [NOWHERE]}))
    return terminal


async def tables(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "select tablename from pg_tables where schemaname = 'public' order by 1"
        )
    finally:
        await connection.close()
    return [row["tablename"] for row in rows]


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_has_its_help(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.command([*arguments, "--help"], {})
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {' '.join(['depositd', *arguments])} ")


@pytest.mark.parametrize("arguments", MISSPELT)
def test_a_misspelt_command_is_one_line_that_names_the_help(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.command(arguments.split(), {}) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert MISSPELT[arguments] in said.err
    assert said.err.endswith("--help`)\n")


async def test_bad_input_is_one_line_and_exit_2_and_leaves_nothing(terminal: Terminal) -> None:
    terminal.write("[networks.sim\nendpoints", "broken.toml")
    terminal.write("", "empty.toml")
    terminal.write('databse = "x"', "typo.toml")
    before = sorted(entry.name for entry in terminal.folder.iterdir())
    room = asyncio.Semaphore(AT_ONCE)

    async def wrong(arguments: str, word: str) -> None:
        async with room:
            assert word in (await terminal.run(*arguments.split(), code=2)).line

    await asyncio.gather(*(wrong(*each) for each in WRONG.items()))
    assert sorted(entry.name for entry in terminal.folder.iterdir()) == before


async def test_what_is_no_text_is_refused_by_its_name(terminal: Terminal) -> None:
    broken = os.fsdecode(b"\xff")
    said = await terminal.run("key", "create", broken, code=2)
    assert "ACCOUNT: is not UTF-8" in said.line
    terminal.environ["DEPOSITD_API__ADMIN_KEY"] = f"{broken}0123456789abcdef"
    assert "api.admin_key: is not UTF-8" in (await terminal.run("status", code=2)).line


async def test_every_problem_of_the_settings_is_told_at_once(terminal: Terminal) -> None:
    terminal.write(settings({"sim": [NOWHERE]}, quorum=7, coin="B A D"))
    terminal.environ["DEPOSITD_NETWORKS__SIM__CONFIRMATIONS"] = "often"
    said = await terminal.run("run", code=2)
    assert said.out == ""
    assert [line.split(":")[0] for line in said.err.splitlines()] == [
        "networks.sim.coin",
        "networks.sim.quorum",
        "networks.sim.confirmations",
    ]


# ---------------------------------------------------------------------------- files and users


async def test_init_writes_a_private_file_whole_or_not_at_all(terminal: Terminal) -> None:
    limited = ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *COMMAND)
    said = await terminal.call(limited, ("init", "new.toml"), 2)
    assert said.line == "new.toml can't be written: File too large"
    assert not (terminal.folder / "new.toml").exists()
    assert (await terminal.run("init", "new.toml", "--json")).json == {"file": "new.toml"}
    assert (terminal.folder / "new.toml").stat().st_mode & 0o777 == 0o600
    assert "exists already" in (await terminal.run("init", "new.toml", code=2)).line
    terminal.environ["DEPOSITD_NETWORKS__ETHEREUM__ENDPOINTS"] = f'["{NOWHERE}"]'
    said = await terminal.run("rewind", "ethereum", "5", "-c", "new.toml", "--json", code=1)
    assert said.line == f"{NOWHERE} can't be reached: Connection refused"  # the example works


@pytest.mark.skipif(not PRIVILEGED, reason="only root can become somebody else")
async def test_who_may_not_read_or_write_is_told_what(terminal: Terminal) -> None:
    change = (f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    somebody = ("setpriv", *change, *COMMAND)
    probe = ["setpriv", *change, sys.executable, "-c", "import indexer.cli"]
    process = await asyncio.create_subprocess_exec(*probe, cwd="/", stderr=asyncio.subprocess.PIPE)
    await process.communicate()
    if process.returncode:
        pytest.skip("this environment is closed to other users")
    said = await terminal.call(somebody, ("status",), 2)
    assert said.line == "data_dir can't be used: .depositd: Permission denied".replace(
        ".depositd", str(terminal.folder / ".depositd")
    )
    said = await terminal.call(somebody, ("init", "mine.toml"), 2)
    assert "mine.toml can't be written: Permission denied" in said.line
    (terminal.folder / "depositd.toml").chmod(0o600)
    said = await terminal.call(somebody, ("status",), 2)
    assert said.line == "depositd.toml can't be read: Permission denied"
    terminal.folder.chmod(0o700)
    inside = ("sh", "-c", 'cd "$0" && exec "$@"', str(terminal.folder))
    said = await terminal.call((*inside, *somebody), ("status",), 2)
    assert said.line == "depositd.toml can't be read: Permission denied"


async def test_a_result_that_nobody_takes_is_said_on_stderr(terminal: Terminal) -> None:
    full = ("sh", "-c", '"$@" >/dev/full', "sh", *COMMAND)
    said = await terminal.call(full, ("init", "a.toml"), 1)
    assert said.line == "the result can't be printed: No space left on device"
    closed = ("sh", "-c", '"$@" <&- >&- 2>&-', "sh", *COMMAND)
    await terminal.call(closed, ("init", "b.toml"), 0)
    await terminal.call(closed, ("init", "b.toml"), 2)
    pipe = ("bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "sh", *COMMAND)
    said = await terminal.call(pipe, ("init", "c.toml"), 1)
    assert said.line == "the result can't be printed: Broken pipe"
    for name in ("a.toml", "b.toml", "c.toml"):
        assert (terminal.folder / name).stat().st_size > 0


# ---------------------------------------------------------------------------- databases


async def test_a_database_that_is_not_ours_to_use_is_refused_untouched(
    terminal: Terminal, server: Server
) -> None:
    dsn = await server.create()
    await execute(dsn, "create table account (theirs integer)")
    await execute(dsn, "create role low login password 'DATABASE-PASSWORD-1'")
    user = dsn[dsn.index("//") + 2 : dsn.index("@")]
    low = dsn.replace(user, "low:DATABASE-PASSWORD-1")
    outcomes = (
        (dsn, 2, "holds something else"),
        (low, 2, "may not make or use our tables: permission denied"),
        (low.replace("WORD-1", "WORD-2"), 2, "does not let us in: password"),
        (dsn.replace("/test_", "/none_"), 2, "does not let us in: database"),
        (dsn.replace("postgresql", "mysql"), 2, "database: must be a URL"),
        (low.replace(dsn[dsn.index("@") :], "@127.0.0.1:1/x"), 3, "out of reach: Connection ref"),
    )
    for database, code, words in outcomes:
        terminal.write(settings({}, database=database))
        assert words in (await terminal.run("status", "--json", code=code)).line
        assert await tables(dsn) == ["account"]
    await execute(dsn, "drop role low")
    await server.drop(dsn)


async def test_a_newer_schema_and_another_secret_key_are_refused(
    terminal: Terminal, empty_dsn: str
) -> None:
    terminal.write(settings({}, database=empty_dsn))
    both = await asyncio.gather(*(terminal.run("status", "--json") for _ in range(2)))
    assert [said.err for said in both] == ["", ""]  # one makes the schema, the other waits for it
    terminal.environ["DEPOSITD_SECRET_KEY"] = "another SECRET-KEY-0123"
    assert "secret_key is not the one" in (await terminal.run("status", code=2)).line
    del terminal.environ["DEPOSITD_SECRET_KEY"]
    await execute(empty_dsn, "insert into schema_step (number, digest) values (999, '')")
    assert "newer depositd" in (await terminal.run("account", "create", "A", code=2)).line
    connection = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("select count(*) from account") == 0
    await connection.close()


async def test_accounts_and_keys_are_printed_once_and_bad_ones_leave_nothing(
    terminal: Terminal, empty_dsn: str
) -> None:
    terminal.write(settings({}, database=empty_dsn))
    assert (await terminal.run("account", "create", "My shöp", "--id", "shop")).out == "shop\n"
    said = await terminal.run("account", "create", "Other", "--json")
    assert said.json["id"].startswith("acc_")
    key = (await terminal.run("key", "create", "shop", "--scope", "read", "--json")).json
    assert set(key) == {"id", "key"}
    assert (await terminal.run("key", "create", "--admin")).out.startswith("dk_")
    for wrong, words in (
        (("account", "create", "Again", "--id", "shop"), "there is an account 'shop' already"),
        (("account", "create", "Odd", "--id", "No Good"), "is no account id"),
        (("account", "create", "two\nlines"), "an account's name is text"),
        (("key", "create", "nobody"), "there is no account 'nobody'"),
    ):
        assert words in (await terminal.run(*wrong, code=2)).line
    connection = await asyncpg.connect(empty_dsn)
    counts = "select (select count(*) from account), (select count(*) from api_key)"
    assert tuple(await connection.fetchrow(counts)) == (2, 2)
    await connection.close()


async def test_the_embedded_database_without_its_key_or_password_says_which(
    terminal: Terminal,
) -> None:
    assert "no network has started yet" in (await terminal.run("status")).out
    data = terminal.folder / ".depositd"
    key = (data / "secret.key").read_bytes()
    (data / "secret.key").unlink()
    said = await terminal.run("status", code=2)
    assert said.line.startswith(".depositd/secret.key is missing")
    assert not (data / "secret.key").exists()  # and no other was made
    (data / "secret.key").write_bytes(b"\xff")
    assert "holds no key any more" in (await terminal.run("status", code=2)).line
    (data / "secret.key").write_bytes(key)
    (data / "postgres.password").rename(data / "away")
    said = await terminal.run("status", code=2)
    assert said.line.endswith("postgres.password: No such file or directory")
    (data / "away").rename(data / "postgres.password")
    await terminal.run("status")
    shutil.rmtree(data)


# ---------------------------------------------------------------------------- check


async def test_check_tells_of_each_endpoint_and_of_the_database(
    terminal: Terminal, dsn: str
) -> None:
    chain, other = SimulatedChain(1), SimulatedChain(2, chain_id=7)
    for _ in range(8):
        chain.mine()
    async with Node(chain) as good, Node(other) as wrong:
        urls = [good.address, wrong.address, NOWHERE]
        terminal.environ["DEPOSITD_SECRET_KEY"] = "a secret key of the tests"
        terminal.write(settings({"sim": urls}, database=dsn))
        said = (await terminal.run("check", "--json")).json
        assert said["ok"]
        assert said["database"] == {"ok": True, "problem": None}
        first, second, third = said["endpoints"]
        assert (first["endpoint"], first["head"], first["proved"]) == (good.url, 8, 3)
        assert "serves chain 7, not 420042" in second["problem"]
        assert (second["failed"], second["advice"]) == ("settings", None)
        assert "Connection refused" in third["problem"]
        assert third["failed"] == "connection"
        assert "is the node running" in third["advice"]
        terminal.write(settings({"sim": urls}, database=dsn, quorum=2))
        table = (await terminal.run("check", code=1)).out.splitlines()
        assert table[0] == "database: ok"
        assert [line.split()[2] for line in table[2:6]] == ["OK", "True", "False", "False"]
        told = "\n".join(table[6:])
        assert f"sim: {wrong.url.rstrip('/')} serves chain 7, not 420042" in told
        assert "Connection refused\n  -> is the node running" in told

        await execute(dsn, "insert into network (id, family, identity) values ('sim', 'evm', 'x')")
        terminal.write(settings({"sim": urls}, database=dsn))
        said = (await terminal.run("check", "--json", code=1)).json
        assert said["endpoints"][0]["problem"] == "this database follows x"
        terminal.write(settings({"sim": urls}, database="postgresql://u@127.0.0.1:1/x"))
        said = (await terminal.run("check", "--json", code=3)).json
        assert "out of reach" in said["database"]["problem"]
        assert [each["ok"] for each in said["endpoints"]] == [True, False, False]


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
async def test_a_command_that_waits_for_a_node_ends_when_it_is_told_to(
    terminal: Terminal, name: signal.Signals
) -> None:
    async with Node(SimulatedChain(1)) as node:
        node.answering.clear()
        terminal.write(settings({"sim": [node.address]}))
        async with terminal.running("rewind", "sim", "5") as process:
            await asyncio.wait_for(node.asked.wait(), 20)
            process.send_signal(name)
            assert await asyncio.wait_for(process.wait(), 20) == 130
        node.answering.set()
    assert not (terminal.folder / ".depositd/postgres/postmaster.pid").exists()  # it is stopped
    assert terminal.log.read_text() == ""


def test_the_secrets_of_these_tests_are_in_their_settings() -> None:
    text = settings({"sim": ["http://user:NODE-PASSWORD@x/?key=NODE-KEY"]}, database="postgresql:")
    assert [secret for secret in SECRETS if secret not in text] == ["DATABASE-PASSWORD"]
