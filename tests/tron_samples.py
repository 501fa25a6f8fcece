"""TRON blocks for tests: recorded mainnet ones, and small ones made by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from indexer.chains import NATIVE, Transfer
from indexer.chains.evm_proof import Log
from indexer.chains.rpc import Endpoint
from indexer.chains.transfer_event import TRANSFER_TOPIC
from indexer.chains.tron_codec import PREFIX
from indexer.chains.tron_decode import Content, transfers
from indexer.chains.tron_execution import executions_of
from indexer.chains.tron_proof import prove, prove_header
from indexer.chains.tron_wire import WireBlock, WireInfo
from indexer.devnet.evm_contracts import call_data
from indexer.devnet.evm_machine import Frame
from indexer.devnet.tron_block import Block, Draft, Executed, seal
from indexer.devnet.tron_wallet import (
    TRANSFER,
    TRANSFER_ASSET,
    TRIGGER,
    Reference,
    Transaction,
    Value,
    Wallet,
)
from tests.evm_samples import Watching

USDT = bytes.fromhex("a614f803b6fd780986a42c78ec9c7f77e6ded13c")
TRC10 = b"1002000"
ALICE, BOB, CAROL = b"\xa1" * 20, b"\xb0" * 20, b"\xca" * 20
VAULT = b"\x7a" * 20  # a contract

PAYER = Wallet(b"\x01" * 32)
WITNESS = Wallet(b"\x02" * 32)
NODE = Endpoint("http://node:8090")
PARENT = bytes(7) + b"\x09" + b"\x5a" * 24

_made = iter(range(1, 10**6))


def signed(kind: str, values: dict[str, Value]) -> Transaction:
    reference = Reference(5, PARENT, 1_700_000_000_000 + next(_made))
    return PAYER.sign(kind, values, reference)


def pays(units: int, to: bytes = ALICE, result: str = "SUCCESS") -> Executed:
    """A TransferContract."""
    tx = signed(TRANSFER, {"to_address": PREFIX + to, "amount": units})
    return Executed(tx, result, 0, [], None, [])


def pays_trc10(units: int, to: bytes = ALICE, asset: bytes = TRC10) -> Executed:
    values: dict[str, Value] = {"asset_name": asset, "to_address": PREFIX + to, "amount": units}
    return Executed(signed(TRANSFER_ASSET, values), "SUCCESS", 0, [], None, [])


def calls(
    contract: bytes = VAULT,
    *,
    value: int = 0,
    data: bytes = b"",
    logs: Sequence[Log] = (),
    inner: Sequence[Frame] = (),
    result: str = "SUCCESS",
    **more: int,
) -> Executed:
    """A TriggerSmartContract; `more`: its fields for TRC-10 tokens."""
    values: dict[str, Value] = {"contract_address": PREFIX + contract, "call_value": value}
    tx = signed(TRIGGER, {**values, "data": data, **more})
    error = None if result == "SUCCESS" else result
    frame = Frame("CALL", PAYER.address, contract, value, data, error=error, calls=list(inner))
    return Executed(tx, result, 1000, list(logs), frame, [])


def transfers_usdt(units: int, to: bytes = ALICE, result: str = "SUCCESS") -> Executed:
    """A transfer of USDT whose call data says what its log says."""
    data = call_data("transfer(address,uint256)", to, units)
    return calls(USDT, data=data, logs=[transfer_log(units, to)], result=result)


def transfer_log(units: int, to: bytes = ALICE, token: bytes = USDT, sender: bytes = BOB) -> Log:
    topics = (TRANSFER_TOPIC, sender.rjust(32, b"\0"), to.rjust(32, b"\0"))
    return Log(token, topics, units.to_bytes(32, "big"))


def inner(
    units: int, to: bytes = ALICE, *, error: str | None = None, calls: Sequence[Frame] = ()
) -> Frame:
    """A contract pays."""
    return Frame("CALL", VAULT, to, units, b"", error=error, calls=list(calls))


def sealed(*executed: Executed) -> Block:
    return seal(Draft(10, PARENT, 1_700_000_000, WITNESS, executed), 0)


def read(block: dict[str, Any], infos: Sequence[dict[str, Any]]) -> Content:
    """What an adapter makes of a node's answers: proved, joined."""
    wire = msgspec.convert(block, WireBlock)
    prove_header(wire)
    proved = prove(wire)
    found = executions_of(NODE, wire, proved.transactions, msgspec.convert(infos, list[WireInfo]))
    leaves = [tx.leaf for tx in proved.transactions]
    return Content(found, leaves, proved.complete, calls=0, nested=0)


def found_in(
    *executed: Executed,
    assets: Collection[bytes] = (NATIVE, USDT, TRC10),
    keys: Collection[bytes] | None = (ALICE,),
) -> list[Transfer]:
    """Transfers of a block in which these were executed."""
    block = sealed(*executed)
    return transfers(read(block.json, block.infos), Watching(assets, keys))


def shown(found: Sequence[Transfer]) -> list[tuple[bytes, int, bool]]:
    return [(each.asset, each.units, each.odd) for each in found]


def load(path: Path) -> Any:
    """A recording, packed or not."""
    octets = path.read_bytes()
    return json.loads(gzip.decompress(octets) if path.suffix == ".gz" else octets)
