"""Envio HyperIndex over plain JSON-RPC, into PostgreSQL. Without its terminal and its GraphQL.

The program comes as a binary from the registry, and generates a package for the configuration, into
which it writes the node's URL and the last block. They are of each job here: what it generated is
made to ask for them as it starts.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.bench.peers.contest import Command, Failed, Job, count, install

SOURCE: Final = Path(__file__).with_name("envio")
PNPM: Final = "pnpm@9.15.9"  # which `envio codegen` calls; it moves what lies beside it
PORT: Final = 42_118
GENERATED: Final = Path("generated", "src")
# What stands in envio/config.yaml, and what takes its place.
ASKED: Final = {
    '"http://node.invalid"': "process.env.RPC_URL",
    "999999999": "Number(process.env.LAST)",
}


class Envio:
    name = "Envio 2.32.12"
    stores = "PostgreSQL"
    to_head = False
    erc721 = False

    def install(self, tools: Path) -> None:
        shutil.copytree(SOURCE, tools, dirs_exist_ok=True)
        shutil.rmtree(tools / "generated", ignore_errors=True)
        options = ["--no-audit", "--no-fund", "--no-package-lock", "--prefix", "pnpm"]
        install(["npm", "install", *options, PNPM], tools)
        programs = tools / "pnpm" / "node_modules" / ".bin"
        path = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        install([programs / "pnpm", "install"], tools, path)
        install([tools / "node_modules" / ".bin" / "envio", "codegen"], tools, path)
        _ask(tools / GENERATED / "Generated.res.js")

    def command(self, job: Job) -> Command:
        database = urlsplit(job.database)
        return Command(
            ["node", job.tools / GENERATED / "Index.res.js"],
            {
                "RPC_URL": job.url,
                "LAST": str(job.last),
                "ENVIO_PG_HOST": database.hostname or "",
                "ENVIO_PG_PORT": str(database.port),
                "ENVIO_PG_USER": database.username or "",
                "ENVIO_PG_PASSWORD": database.password or "",
                "ENVIO_PG_DATABASE": database.path.strip("/"),
                "ENVIO_HASURA": "false",
                "ENVIO_INDEXER_PORT": str(PORT),
                "TUI_OFF": "true",
            },
        )

    async def rows(self, job: Job) -> int:
        return await count(job.database, 'public."Transfer"')


def _ask(generated: Path) -> None:
    """Also finds out whether anything was generated: `envio codegen` leaves with 0 either way."""
    if not generated.exists():
        raise Failed("envio codegen generated nothing")
    program = generated.read_text()
    for written, asked in ASKED.items():
        if program.count(written) != 1:
            raise Failed(f"envio codegen wrote {written} {program.count(written)} times")
        program = program.replace(written, asked)
    generated.write_text(program)
