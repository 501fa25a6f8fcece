"""The tests' Solidity contracts: compiled when first needed, by solc from npm, without a network.

Nothing compiled is committed: whoever can run a node here has the compiler too, and a stale
artefact can't exist. The result is kept in a folder that git ignores, under the hash of its inputs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eth_abi.abi import encode as abi_encode
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.address import to_checksum_address

if TYPE_CHECKING:
    from tests.harness.anvil import Anvil

SOURCES: Final = Path(__file__).parent.parent / "contracts"
NODE: Final = Path(__file__).parent.parent / "node"
BUILD: Final = SOURCES / "build"
COMPILE: Final = 60.0  # seconds


@dataclass(frozen=True)
class Contract:
    """A compiled contract."""

    name: str
    abi: tuple[dict[str, Any], ...]
    bytecode: str
    runtime: str

    def creation(self, *arguments: Any) -> str:
        """The data of a transaction that deploys it."""
        made = [each for each in self.abi if each["type"] == "constructor"]
        return self.bytecode + _encode(made[0]["inputs"] if made else [], arguments).hex()

    def data(self, function: str, *arguments: Any) -> str:
        """The data of a call."""
        inputs = next(each["inputs"] for each in self.abi if each.get("name") == function)
        signature = f"{function}({','.join(each['type'] for each in inputs)})"
        selector: bytes = function_signature_to_4byte_selector(signature)
        return f"0x{selector.hex()}{_encode(inputs, arguments).hex()}"


@dataclass(frozen=True)
class Deployed:
    """A contract on a chain."""

    contract: Contract
    address: str
    node: Anvil

    @property
    def checksummed(self) -> str:
        return to_checksum_address(self.address)

    async def send(
        self, function: str, *arguments: Any, sender: int = 0, value: int = 0, **fields: Any
    ) -> str:
        """Put a call into the pool, from one of the node's accounts; its hash."""
        data = self.contract.data(function, *arguments)
        account = self.node.accounts[sender]
        return await self.node.send(account, self.address, data=data, value=value, **fields)


@functools.cache
def contracts() -> dict[str, Contract]:
    """Every contract of tests/contracts by name."""
    sources = sorted(SOURCES.glob("*.sol"))
    inputs = [*sources, NODE / "compile.js", NODE / "package-lock.json"]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()
    built = BUILD / f"{digest}.json"
    if not built.exists():
        _compile(sources, built)
    artifacts = json.loads(built.read_bytes())
    return {
        name: Contract(name, tuple(each["abi"]), each["bytecode"], each["runtime"])
        for name, each in artifacts.items()
    }


def _compile(sources: list[Path], built: Path) -> None:
    done = subprocess.run(
        ["node", str(NODE / "compile.js"), *map(str, sources)],
        capture_output=True,
        timeout=COMPILE,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"solc failed: {done.stderr.decode()[:2000]}")
    built.parent.mkdir(exist_ok=True)
    half = built.with_suffix(".half")
    half.write_bytes(done.stdout)
    half.replace(built)


def _encode(inputs: list[dict[str, Any]], arguments: tuple[Any, ...]) -> bytes:
    return abi_encode([each["type"] for each in inputs], arguments)
