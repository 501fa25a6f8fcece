"""ethereum-etl: token transfers into a CSV file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.bench.peers.contest import Command, Job, install

# A library of its reads a function that Python 3.11 has no more.
PATCH: Final = "import inspect\ninspect.getargspec = inspect.getfullargspec\n"


class EthereumEtl:
    name = "ethereum-etl 2.4.2"
    stores = "CSV"
    to_head = False
    erc721 = True

    def install(self, tools: Path) -> None:
        install([sys.executable, "-m", "venv", tools], tools)
        pip: list[str | Path] = [tools / "bin" / "pip", "install", "--quiet"]
        install([*pip, "ethereum-etl==2.4.2", "setuptools<81"], tools)
        for packages in tools.glob("lib/python*/site-packages"):
            (packages / "sitecustomize.py").write_text(PATCH)

    def command(self, job: Job) -> Command:
        arguments = ["-s", "1", "-e", str(job.last), "-p", job.url, "-b", "50", "-w", "1"]
        program = job.tools / "bin" / "ethereumetl"
        return Command([program, "export_token_transfers", *arguments, "-o", self._file(job)])

    async def rows(self, job: Job) -> int:
        path = self._file(job)
        if not path.exists():
            return 0
        with path.open("rb") as file:
            return max(0, sum(1 for _ in file) - 1)  # less its heading

    @staticmethod
    def _file(job: Job) -> Path:
        return job.folder / "transfers.csv"
