"""SQD's evm-processor over plain JSON-RPC, with a sink that inserts by `unnest`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from tests.bench.peers.contest import Command, Job, count, install

SOURCE: Final = Path(__file__).with_name("sqd")


class Sqd:
    name = "SQD evm-processor 1.27.3"
    stores = "PostgreSQL"
    to_head = False
    erc721 = False

    def install(self, tools: Path) -> None:
        shutil.copytree(SOURCE, tools, dirs_exist_ok=True)
        install(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], tools)

    def command(self, job: Job) -> Command:
        return Command(
            ["node", job.tools / "index.js"],
            {"RPC_URL": job.url, "DATABASE_URL": job.database, "LAST": str(job.last)},
        )

    async def rows(self, job: Job) -> int:
        return await count(job.database, "transfer")
