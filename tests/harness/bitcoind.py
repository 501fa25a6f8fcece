"""Real Bitcoin-like nodes for the tests, in regtest: litecoind from Debian, bitcoind where it is.

They mine only when told to, and take blocks from each other only by the test's hand.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.harness.engine import free_port
from tests.harness.rpc import Rpc, RpcError

LITECOIND: Final = "/usr/lib/litecoin/litecoind"  # where Debian's package puts it
MISSING: Final = "litecoind is not installed (apt-get install -y litecoind)"
START: Final = 30.0  # seconds a node may take to answer
STOP: Final = 20.0  # seconds it may take to end
MINER, USERS = "miner", "users"  # wallets: who pays, and who is paid
MATURITY: Final = 101  # blocks until the first coinbase can be spent
MWEB_HEIGHT: Final = 432  # where litecoind's regtest asks for an extension block


def programs() -> list[Any]:
    """Parameters, (coin, program): each node that is installed; litecoind at least where CI is set.

    What is missing there fails, elsewhere it is skipped.
    """
    litecoind = shutil.which("litecoind") or (LITECOIND if Path(LITECOIND).exists() else "")
    marks = [pytest.mark.bitcoind]
    if not litecoind and not os.environ.get("CI"):
        marks.append(pytest.mark.skip(reason=MISSING))
    found = [pytest.param(("ltc", litecoind), id="litecoind", marks=marks)]
    bitcoind = shutil.which("bitcoind")
    if bitcoind is not None:
        found.append(pytest.param(("btc", bitcoind), id="bitcoind", marks=pytest.mark.bitcoind))
    return found


class Bitcoind(Rpc):
    """A running node with two wallets; `url` carries its credentials."""

    async def wallet(self, name: str, method: str, *params: Any) -> Any:
        """A call to one of the wallets."""
        return await self.call(method, *params, path=f"/wallet/{name}")

    async def address(self, kind: str = "bech32", owner: str = USERS) -> str:
        found: str = await self.wallet(owner, "getnewaddress", "", kind)
        return found

    async def multisig(self, kind: str) -> str:
        """An address that one key of one opens."""
        key = await self.wallet(USERS, "getaddressinfo", await self.address())
        found: str = (await self.call("createmultisig", 1, [key["pubkey"]], kind))["address"]
        return found

    async def script(self, address: str) -> bytes:
        """What the node itself takes an address for."""
        return bytes.fromhex((await self.call("validateaddress", address))["scriptPubKey"])

    async def mine(self, blocks: int = 1, to: str | None = None) -> list[str]:
        paid = to or await self.address(owner=MINER)
        found: list[str] = await self.call("generatetoaddress", blocks, paid)
        return found

    async def height(self) -> int:
        found: int = await self.call("getblockcount")
        return found

    async def hash(self, height: int) -> str:
        found: str = await self.call("getblockhash", height)
        return found

    async def pay(self, *outputs: tuple[str | bytes, str]) -> str:
        """One transaction of the miner's with these outputs (an address or a script, coins).

        One after the other, twice the same address as well. Returns its id.
        """
        return await self.send(await self.signed(*outputs))

    async def unspent(self, address: str) -> list[dict[str, Any]]:
        """What the miner has there."""
        found: list[dict[str, Any]] = await self.wallet(MINER, "listunspent", 0, 9999, [address])
        return found

    async def send(self, raw: str) -> str:
        txid: str = await self.call("sendrawtransaction", raw, 0)  # whatever its fee
        return txid

    async def signed(
        self, *outputs: tuple[str | bytes, str], spending: Sequence[dict[str, Any]] = ()
    ) -> str:
        """The same, not sent: its bytes as hex. `spending`: of `listunspent`, else as it likes."""
        raw, choice = await self._raw(outputs, spending), {"changePosition": len(outputs)}
        if not spending:
            raw = (await self.wallet(MINER, "fundrawtransaction", raw, choice))["hex"]
        made: str = (await self.wallet(MINER, "signrawtransactionwithwallet", raw))["hex"]
        return made

    async def _raw(
        self, outputs: Sequence[tuple[str | bytes, str]], spending: Sequence[dict[str, Any]]
    ) -> str:
        """An unsigned transaction, spelled out: the node's own merges or forbids equal outputs."""
        body = bytes((len(spending),))
        for coin in spending:
            outpoint = bytes.fromhex(coin["txid"])[::-1] + coin["vout"].to_bytes(4, "little")
            body += outpoint + b"\0" + b"\xfd" + b"\xff" * 3
        body += bytes((len(outputs),))
        for paid, amount in outputs:
            script = paid if isinstance(paid, bytes) else await self.script(paid)
            whole, _, fraction = amount.partition(".")
            units = int(whole + fraction.ljust(8, "0"))
            body += units.to_bytes(8, "little") + bytes((len(script),)) + script
        return "02000000" + body.hex() + "00000000"

    async def hand_over(self, other: Bitcoind) -> None:
        """Give another node the blocks of this chain that it lacks, as the network would."""
        top = height = await self.height()
        while await other.hash_or_none(height) != await self.hash(height):
            height -= 1
        for each in range(height + 1, top + 1):
            raw = await self.call("getblock", await self.hash(each), 0)
            await other.call("submitblock", raw)

    async def hash_or_none(self, height: int) -> str | None:
        return await self.hash(height) if height <= await self.height() else None


@contextmanager
def running(program: str, folder: Path) -> Iterator[str]:
    """The URL of a regtest node, credentials in it, whose miner has coins to spend."""
    assert program, MISSING
    folder.mkdir(parents=True)
    port, password = free_port(), secrets.token_hex(16)
    url = f"http://test:{password}@127.0.0.1:{port}"
    process = subprocess.Popen(
        [
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
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        asyncio.run(_prepare(url, process))
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _prepare(url: str, process: subprocess.Popen[bytes]) -> None:
    async with Bitcoind(url) as node, asyncio.timeout(START):
        while True:
            assert process.poll() is None, "the node ended at once"
            try:
                await node.call("getblockchaininfo")
                break
            except (aiohttp.ClientError, RpcError):
                await asyncio.sleep(0.1)
        for wallet in (MINER, USERS):
            await node.call("createwallet", wallet)
        await node.mine(MATURITY + 10)
