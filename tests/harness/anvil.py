"""A real EVM node for the tests: anvil, from npm, pinned in tests/node.

It mines only when told to. Facts about anvil 1.7.1 that tests rely on: `finalized` is the head
minus two epochs of 32 blocks and `safe` minus one; a rollback empties the pool and forgets the old
blocks, also by hash; empty blocks differ from each other by a random `mixHash`; its header hashes,
roots and blooms prove, but for the transactions root of a block with blobs; the pool is ordered by
arrival, so that a test decides what comes first.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.harness.contracts import Contract, Deployed
from tests.harness.rpc import Rpc

NODE: Final = Path(__file__).parent.parent / "node"
MODULES: Final = NODE / "node_modules"
START: Final = 20.0  # seconds anvil may take to listen
STOP: Final = 5.0  # seconds it may take to end
EPOCH: Final = 32  # blocks; `finalized` is two of them behind the head
GAS: Final = 3_000_000


def program() -> Path:
    """anvil's binary; without it the test is skipped, or fails where CI says it must be there."""
    found = next(iter(sorted(MODULES.glob("@foundry-rs/anvil-*/bin/anvil"))), None)
    if found is not None and shutil.which("node"):
        return found
    reason = "anvil is not installed: needs Node 20+ and `npm ci` in tests/node (`make install`)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Anvil(Rpc):
    """A running node with ten unlocked, rich accounts."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.accounts: list[str] = []
        self._sending = asyncio.Lock()  # anvil gives two at once the same nonce

    async def send(self, sender: str, to: str | None, **fields: Any) -> str:
        """Put a transaction into the pool; its hash. Ints are amounts or gas."""
        request: dict[str, Any] = {"from": sender, "gas": hex(GAS)}
        if to is not None:
            request["to"] = to
        for name, value in fields.items():
            request[name] = hex(value) if isinstance(value, int) else value
        async with self._sending:
            sent: str = await self.call("eth_sendTransaction", request)
        return sent

    async def pay(self, to: str, units: int, *, sender: int = 0, **fields: Any) -> str:
        return await self.send(self.accounts[sender], to, value=units, **fields)

    async def deploy(self, contract: Contract, *arguments: Any, value: int = 0) -> Deployed:
        """Deploy and mine; the last account pays, so that the others' nonces stay the test's."""
        data = contract.creation(*arguments)
        sent = await self.send(self.accounts[-1], None, data=data, value=value)
        await self.mine()
        receipt = await self.receipt(sent)
        assert receipt is not None
        assert int(receipt["status"], 16) == 1, f"{contract.name} could not be deployed"
        return Deployed(contract, receipt["contractAddress"], self)

    async def mine(self, blocks: int = 1) -> int:
        """Mine the pool into one block, and empty blocks after it; the new height."""
        for _ in range(blocks):
            await self.call("evm_mine")
        return await self.height()

    async def receipt(self, sent: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self.call("eth_getTransactionReceipt", sent)
        return found

    async def raw(self, sent: str) -> str:
        """A transaction's signed bytes, to be mined again on another branch."""
        found: str = await self.call("eth_getRawTransactionByHash", sent)
        return found

    async def put(self, raw: Sequence[str]) -> None:
        """Put signed transactions into the pool again."""
        for each in raw:
            await self.call("eth_sendRawTransaction", each)

    async def rollback(self, depth: int) -> None:
        """Forget the last `depth` blocks: the head shrinks until something is mined."""
        await self.call("anvil_rollback", depth)

    async def finalized(self) -> int:
        found = await self.block("finalized")
        assert found is not None
        return int(found["number"], 16)

    async def set_code(self, address: str, code: str) -> None:
        await self.call("anvil_setCode", address, code)


@asynccontextmanager
async def anvil(chain_id: int = 31337, timestamp: int | None = None) -> AsyncIterator[Anvil]:
    """A fresh chain on a port of its own, its genesis at `timestamp`; gone afterwards."""
    genesis = () if timestamp is None else ("--timestamp", str(timestamp))
    process = await asyncio.create_subprocess_exec(
        *(str(program()), "--port", "0", "--no-mining", "--order", "fifo"),
        *("--slots-in-an-epoch", str(EPOCH), "--chain-id", str(chain_id), *genesis),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    drain: asyncio.Task[None] | None = None
    try:
        port = await asyncio.wait_for(_listening(process.stdout), START)
        drain = asyncio.create_task(_drain(process.stdout))
        async with Anvil(f"http://127.0.0.1:{port}") as node:
            node.accounts = await node.call("eth_accounts")
            yield node
    finally:
        await _stop(process)
        if drain is not None:
            await drain


async def _listening(output: asyncio.StreamReader) -> int:
    while line := await output.readline():
        if b"Listening on" in line:
            return int(line.decode().strip().rsplit(":", 1)[1])
    raise AssertionError("anvil ended before it listened")


async def _drain(output: asyncio.StreamReader) -> None:
    while await output.readline():
        pass


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP)
    if process.returncode is None:
        process.kill()
        await process.wait()
