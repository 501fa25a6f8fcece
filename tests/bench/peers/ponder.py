"""Ponder: its backfill into PostgreSQL. It goes on serving, and is told to end once it is ready.

The package's newest tag is an older code base under a wrong number; this is the newest for Node 20.
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from tests.bench.blocks import CHAIN_ID
from tests.bench.peers.contest import Command, Job, count, install

SOURCE: Final = Path(__file__).with_name("ponder")
PORT: Final = 42_117
SCHEMA: Final = "ponder"


class Ponder:
    name = "Ponder 0.16.10"
    stores = "PostgreSQL"
    to_head = False
    erc721 = False

    def install(self, tools: Path) -> None:
        shutil.copytree(SOURCE, tools, dirs_exist_ok=True)
        install(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], tools)

    def command(self, job: Job) -> Command:
        program = job.tools / "node_modules" / "ponder" / "dist" / "esm" / "bin" / "ponder.js"
        options = ["--schema", SCHEMA, "--port", str(PORT), "--hostname", "127.0.0.1"]
        return Command(
            ["node", program, "start", "--root", job.tools, *options],
            {
                "RPC_URL": job.url,
                "CHAIN_ID": str(CHAIN_ID),
                "DATABASE_URL": job.database,
                "LAST": str(job.last),
                "PONDER_TELEMETRY_DISABLED": "1",
            },
            _is_ready,
        )

    async def rows(self, job: Job) -> int:
        return await count(job.database, f"{SCHEMA}.transfer")


def _is_ready() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
