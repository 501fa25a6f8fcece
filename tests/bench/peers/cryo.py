"""cryo: Rust, logs into a frame in memory. It stores into no database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.bench.peers.contest import Command, Job, install

COLLECT: Final = """
import sys
import cryo
url, last, path = sys.argv[1:]
logs = cryo.collect(
    "logs", blocks=[f"1:{int(last) + 1}"], rpc=url, output_format="polars",
    inner_request_size=50, chunk_size=1000, max_concurrent_requests=4,
    topic0=["0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"],
)
erc20 = logs.filter(logs["topic3"].is_null() & logs["topic2"].is_not_null())
open(path, "w").write(str(len(erc20)))
"""


class Cryo:
    name = "cryo 0.3.2"
    stores = "memory"
    to_head = False
    erc721 = False

    def install(self, tools: Path) -> None:
        install([sys.executable, "-m", "venv", tools], tools)
        pip: list[str | Path] = [tools / "bin" / "pip", "install", "--quiet"]
        install([*pip, "cryo==0.3.2", "polars==2.1.0", "pyarrow==26.0.1"], tools)

    def command(self, job: Job) -> Command:
        python = job.tools / "bin" / "python"
        return Command([python, "-c", COLLECT, job.url, str(job.last), job.folder / "rows"])

    async def rows(self, job: Job) -> int:
        found = job.folder / "rows"
        return int(found.read_text()) if found.exists() else 0
