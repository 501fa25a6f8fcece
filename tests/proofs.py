"""Proofs of deposits as a stranger has them, and the README's program that checks them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

from indexer.api.proofs import proof_view
from indexer.chains import Codec, Transfer
from indexer.chains.evidence import Proof
from indexer.model import Deposit, Place, State
from tests.readme import blocks


@cache
def program() -> dict[str, Any]:
    """The names that the README's program defines."""
    (code,) = blocks("python", "Proofs of a deposit")
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def verify(proof: Any) -> Any:
    """What the README's program makes of it."""
    return program()["verify"](proof)


def protobuf(message: bytes) -> dict[int, Any]:
    """A message's fields, the last of each number."""
    return dict(program()["protobuf"](message))


def shown(codec: Codec, height: int, block: bytes, transfer: Transfer, proof: Proof) -> Any:
    """What the API answers of a deposit of that transfer, as its reader has it."""
    deposit = Deposit(
        account="shop",
        network="net",
        tx=transfer.tx,
        address=transfer.recipient,
        asset=transfer.asset,
        ordinal=transfer.ordinal,
        id="dep_1",
        coin="coin",
        units=transfer.units,
        sender=transfer.sender,
        place=Place(height, block, datetime.fromtimestamp(0, UTC)),
        reference=None,
        required=1,
        first_state=State.DETECTED,
        first_reason=None,
    )
    return json.loads(json.dumps(proof_view(deposit, codec, proof)))
