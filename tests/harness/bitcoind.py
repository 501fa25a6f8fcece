"""Real Bitcoin-like nodes for the tests, in regtest: litecoind from Debian, bitcoind where it is.

They mine only when told to, and take blocks from each other only by the test's hand.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.harness.rpc import RpcError

LITECOIND: Final = "/usr/lib/litecoin/litecoind"  # where Debian's package puts it
START: Final = 30.0  # seconds a node may take to answer
STOP: Final = 20.0  # seconds it may take to end
CALL: Final = 60.0  # seconds a call may take
WALLET: Final = "test"
MATURITY: Final = 101  # blocks until the first coinbase can be spent
MWEB_HEIGHT: Final = 432  # where litecoind's regtest asks for an extension block


def programs() -> list[Any]:
    """Parameters: each node that is installed, by its coin; at least litecoind where CI is set."""
    litecoind = shutil.which("litecoind") or (LITECOIND if Path(LITECOIND).exists() else None)
    reason = "litecoind is not installed (apt-get install -y litecoind)"
    missing = [] if os.environ.get("CI") else [pytest.mark.skip(reason=reason)]
    found = [pytest.param("ltc", litecoind, id="litecoind", marks=[] if litecoind else missing)]
    bitcoind = shutil.which("bitcoind")
    if bitcoind is not None:
        found.append(pytest.param("btc", bitcoind, id="bitcoind"))
    return found


class Bitcoind:
    """A running node. `url` carries its credentials."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def call(self, method: str, *params: Any) -> Any:
        """The result; RpcError where the node says no."""
        request = {"method": method, "params": params, "id": 1}
        async with self._session.post(self.url, json=request) as response:
            answer = await response.json(content_type=None)
        if answer["error"] is not None:
            raise RpcError(method, answer["error"])
        return answer["result"]

    async def address(self, kind: str = "bech32") -> str:
        found: str = await self.call("getnewaddress", "", kind)
        return found

    async def mine(self, blocks: int = 1, to: str | None = None) -> list[str]:
        found: list[str] = await self.call("generatetoaddress", blocks, to or await self.address())
        return found

    async def height(self) -> int:
        found: int = await self.call("getblockcount")
        return found

    async def hash(self, height: int) -> str:
        found: str = await self.call("getblockhash", height)
        return found

    async def pay(self, *outputs: tuple[str, str]) -> str:
        """One transaction with these outputs, one after the other, twice the same address as well.

        Returns its id.
        """
        # Named inputs' own call merges equal addresses: the script is spelled out by hand instead.
        funded = await self.call(
            "fundrawtransaction", await self._raw(outputs), {"changePosition": len(outputs)}
        )
        signed = await self.call("signrawtransactionwithwallet", funded["hex"])
        txid: str = await self.call("sendrawtransaction", signed["hex"])
        return txid

    async def _raw(self, outputs: tuple[tuple[str, str], ...]) -> str:
        """A transaction without inputs: the node's own forbids an address twice."""
        body = bytes((len(outputs),))
        for address, amount in outputs:
            script = bytes.fromhex((await self.call("getaddressinfo", address))["scriptPubKey"])
            whole, _, fraction = amount.partition(".")
            units = int(whole + fraction.ljust(8, "0"))
            body += units.to_bytes(8, "little") + bytes((len(script),)) + script
        return ("02000000" + "00") + body.hex() + "00000000"


@asynccontextmanager
async def running(program: str, folder: Path) -> AsyncIterator[Bitcoind]:
    """A regtest node with coins to spend."""
    port, password = _prepare(folder), secrets.token_hex(16)
    process = await asyncio.create_subprocess_exec(
        program,
        "-regtest",
        f"-datadir={folder}",
        "-server",
        "-rest",
        "-listen=0",
        "-dnsseed=0",
        "-fallbackfee=0.0001",
        "-walletrbf=1",
        *(["-mempoolreplacement=1"] if "litecoind" in program else []),
        "-rpcuser=test",
        f"-rpcpassword={password}",
        f"-rpcport={port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    timeout = aiohttp.ClientTimeout(total=CALL)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            node = Bitcoind(f"http://test:{password}@127.0.0.1:{port}", session)
            await _ready(node, process)
            await node.call("createwallet", WALLET)
            yield node
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _ready(node: Bitcoind, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START):
        while True:
            assert process.returncode is None, "the node ended at once"
            try:
                await node.call("getblockchaininfo")
            except (aiohttp.ClientError, RpcError):
                await asyncio.sleep(0.1)
            else:
                return


def _prepare(folder: Path) -> int:
    """Make a node's folder; returns a port that is free."""
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
