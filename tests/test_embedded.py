"""The embedded PostgreSQL: shared by who needs it, adopted or recovered after any kill -9."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from indexer import postgres
from indexer.embedded import Embedded
from indexer.model import Refused

SECONDS: Final = 60.0  # a test process may take that long to say that its server runs
ROOT: Final = Path(__file__).parents[1]
# Prints its server's URL, and leaves when its input ends.
USER: Final = """
import asyncio, pathlib, sys, uvloop
from indexer.embedded import Embedded

async def main():
    async with Embedded(pathlib.Path(sys.argv[1])) as dsn:
        print(dsn, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data_dir; whatever a failed test left running in it ends with the test."""
    folder = tmp_path / "closed" / "data"
    yield folder
    pid = server_pid(folder)
    if pid is not None:
        os.kill(pid, signal.SIGQUIT)


def server_pid(folder: Path) -> int | None:
    """The process of a server that runs in `folder`."""
    try:
        pid = int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        return pid if Path(f"/proc/{pid}/cwd").samefile(folder / "postgres") else None
    except (OSError, IndexError):
        return None


def status(pid: int | None) -> str:
    """What the kernel says of a process; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return ""


async def gone(pid: int) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            if not status(pid):
                return
            await asyncio.sleep(0.02)


class User:
    """Another process that uses the server."""

    def __init__(self, process: asyncio.subprocess.Process, dsn: str) -> None:
        self.process = process
        self.dsn = dsn

    async def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(SECONDS):
            assert await self.process.wait() == 0

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def user(folder: Path, *prefix: str) -> AsyncIterator[User]:
    process = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, "-c", USER, str(folder),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(SECONDS):
            while not (line := (await process.stdout.readline()).decode()).startswith("postgres"):
                assert line, "the process ended"
        yield User(process, line.strip())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


# ------------------------------------------------------------------ one user after the other


async def test_a_restart_keeps_data_and_port(folder: Path) -> None:
    async with Embedded(folder) as dsn:
        await run(dsn, "create table kept as select 42 as answer")
        pid = server_pid(folder)
        assert pid is not None
    assert server_pid(folder) is None
    await gone(pid)
    async with Embedded(folder) as again:
        assert again == dsn
        assert await run(again, "select answer from kept") == 42


async def test_data_is_synced_except_for_tests(tmp_path: Path) -> None:
    async with Embedded(tmp_path / "a") as dsn:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            assert await run(dsn, f"show {name}") == "on"
    async with Embedded(tmp_path / "b", durable=False) as dsn:
        assert await run(dsn, "show fsync") == "off"


async def test_it_is_closed_to_everyone_else(folder: Path) -> None:
    async with Embedded(folder, durable=False) as dsn:
        assert await run(dsn, "show listen_addresses") == "127.0.0.1"
        assert await run(dsn, "show unix_socket_directories") == ""
        rules = "select string_agg(distinct auth_method, ',') from pg_hba_file_rules"
        assert await run(dsn, rules) == "scram-sha-256"
        password = (folder / "postgres.password").read_text()
        for name, mode in (("postgres.password", 0o600), ("postgres", 0o700)):
            assert stat.S_IMODE((folder / name).stat().st_mode) == mode
        for file in (folder / "postgres").rglob("*"):
            if file.is_file() and file.stat().st_size < 100_000:
                assert password.encode() not in file.read_bytes()


async def test_rights_of_parent_folders_stay(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700)
    before = [(parent, parent.stat().st_mode) for parent in folder.parents]
    async with Embedded(folder, durable=False):
        pass
    assert before == [(parent, parent.stat().st_mode) for parent in folder.parents]


# ------------------------------------------------------------------ many users


async def test_starters_at_once_share_one_server_and_the_last_stops_it(folder: Path) -> None:
    async with user(folder) as first, user(folder) as second:
        assert first.dsn == second.dsn
        async with Embedded(folder, durable=False) as dsn:
            assert dsn == first.dsn
            await asyncio.gather(first.leave(), second.leave())
            assert await run(dsn, "select 1") == 1
        assert server_pid(folder) is None


async def test_two_first_starters_at_once_make_one_server(folder: Path) -> None:
    async def use() -> str:
        async with Embedded(folder, durable=False) as dsn:
            await run(dsn, "select pg_sleep(0.2)")
            return dsn

    urls = await asyncio.gather(use(), use(), use())
    assert len(set(urls)) == 1
    assert server_pid(folder) is None


# ------------------------------------------------------------------ kill -9


@pytest.mark.pitfall("P114")
async def test_a_server_whose_user_was_killed_is_adopted_and_stopped(folder: Path) -> None:
    async with user(folder) as killed:
        await run(killed.dsn, "create table kept as select 42 as answer")
        await killed.kill()
    pid = server_pid(folder)
    assert pid is not None
    async with Embedded(folder, durable=False) as dsn:
        assert server_pid(folder) == pid
        assert await run(dsn, "select answer from kept") == 42
    assert server_pid(folder) is None
    await gone(pid)


@pytest.mark.pitfall("P114")
async def test_a_killed_server_recovers_what_was_committed(folder: Path) -> None:
    async with user(folder) as killed:
        await run(killed.dsn, "create table kept as select 42 as answer")
        pid = server_pid(folder)
        assert pid is not None
        await killed.kill()
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
    async with Embedded(folder) as dsn:
        assert await run(dsn, "select answer from kept") == 42


async def test_a_server_that_died_under_its_users_can_be_started_again(folder: Path) -> None:
    embedded = Embedded(folder, durable=False)
    async with embedded as dsn:
        pid = server_pid(folder)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        assert await embedded.start() == dsn
        assert await run(dsn, "select 1") == 1
    assert server_pid(folder) is None


async def test_a_process_with_the_old_servers_id_is_no_server(folder: Path) -> None:
    async with Embedded(folder, durable=False):
        lines = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
    lines[0] = str(os.getpid())
    (folder / "postgres" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    async with Embedded(folder, durable=False) as dsn:
        assert await run(dsn, "select 1") == 1


async def test_a_start_that_was_killed_halfway_is_begun_anew(folder: Path) -> None:
    (folder / "postgres.new.1" / "base").mkdir(parents=True)
    (folder / "postgres.password").write_text("")
    (folder / "postgres.given").write_text("")
    async with Embedded(folder, durable=False) as dsn:
        assert await run(dsn, "select 1") == 1
    assert not [name for name in os.listdir(folder) if name.startswith("postgres.new")]
    assert not (folder / "postgres.given").exists()


@pytest.mark.parametrize("after", [0.1, 0.5, 0.9, 1.3])
async def test_a_cancelled_start_leaves_no_server(folder: Path, after: float) -> None:
    async def use() -> None:
        async with Embedded(folder, durable=False):
            await asyncio.sleep(SECONDS)

    task = asyncio.create_task(use())
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server_pid(folder) is None
    async with Embedded(folder, durable=False) as dsn:
        assert await run(dsn, "select 1") == 1


async def test_a_port_that_was_taken_meanwhile_is_given_up(folder: Path) -> None:
    async with Embedded(folder, durable=False) as dsn:
        pass
    port = int((folder / "postgres.port").read_text())
    with socket.create_server(("127.0.0.1", port)):
        async with Embedded(folder, durable=False) as other:
            assert other != dsn
            assert await run(other, "select 1") == 1


# ------------------------------------------------------------------ what cannot run


async def test_data_of_a_version_that_is_not_here_is_refused(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(Refused, match="database of PostgreSQL 9, and this depositd brings 16 and"):
        await Embedded(folder).start()


async def test_data_stays_with_the_version_that_made_it(folder: Path) -> None:
    [older, newer] = postgres.wheel_bin_dirs()
    async with Embedded(folder, durable=False, bin_dir=older) as dsn:
        version = await run(dsn, "show server_version_num")
    async with Embedded(folder, durable=False) as dsn:
        assert await run(dsn, "show server_version_num") == version
    assert older != newer


async def test_a_lost_password_is_told(folder: Path) -> None:
    async with Embedded(folder, durable=False):
        pass
    (folder / "postgres.password").write_text("another")
    with pytest.raises(Refused, match=r"postgres\.password is not the server's password"):
        async with Embedded(folder, durable=False):
            pass
    assert server_pid(folder) is None


async def test_without_the_wheel_a_database_must_be_configured(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda _: None)
    with pytest.raises(Refused, match="set `database`"):
        await Embedded(folder).start()


@as_root
async def test_root_without_setpriv_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(Refused, match="`setpriv`"):
        await Embedded(folder).start()


async def test_a_folder_that_cannot_be_made_is_told() -> None:
    with pytest.raises(Refused, match="data_dir can't be used: /proc/data: "):
        await Embedded(Path("/proc/data")).start()


@as_root
async def test_another_user_than_root_needs_no_help() -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("no setpriv to become another user with")
    uid, gid = postgres.owner()
    prefix = (setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    probe = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, "-c", "import indexer.embedded", cwd=ROOT
    )
    if await probe.wait():
        pytest.skip("this checkout is closed to other users")
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, uid, gid)
        async with user(Path(name) / "data", *prefix) as other:
            assert await run(other.dsn, "select 1") == 1
            pid = server_pid(Path(name) / "data")
            assert pid is not None
            assert "CapEff:\t0000000000000000" in status(pid)
            await other.leave()
        await gone(pid)


@as_root
async def test_the_server_of_root_is_nobody_with_no_more_rights_than_the_way_takes(
    tmp_path: Path,
) -> None:
    """One capability where parent folders are closed, as pytest's are; none where they are open."""
    uid, _ = postgres.owner()
    async with Embedded(tmp_path / "data", durable=False):
        said = status(server_pid(tmp_path / "data"))
        assert "CapEff:\t0000000000000002" in said
        assert f"Uid:\t{uid}\t" in said
    with open_folder() as name:
        async with Embedded(name / "data", durable=False):
            said = status(server_pid(name / "data"))
            assert f"CapEff:\t{0 if open_programs() else 2:016}" in said
            assert f"Uid:\t{uid}\t" in said


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder whose parents anyone may pass."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def open_programs() -> bool:
    """Whether anyone may run the wheel's programs where this checkout stands."""
    return all(path.stat().st_mode & 1 for path in postgres.wheel_bin_dirs()[-1].parents)
