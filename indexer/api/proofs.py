"""`/v1/deposits/{id}/proof`: evidence that a stranger can check. README: how."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from typing_extensions import TypedDict

from indexer.api.errors import Conflict, missing
from indexer.api.operation import Call, Routes
from indexer.api.shapes import Units
from indexer.booking import transfer_of
from indexer.chains import Codec
from indexer.chains.evidence import Branch, Evidence, Proof, TreeEvidence
from indexer.ledger import deposit_from
from indexer.model import Deposit, Refused, State

Hex: TypeAlias = Annotated[str, Field(pattern="^([0-9a-f]{2})+$")]

routes = Routes("Deposits")


class TrieView(TypedDict):
    """EVM: nodes on the way from a root in the header to what it commits to, root first."""

    header: Hex
    key: Hex
    transaction: list[Hex]
    receipt: list[Hex]
    logIndex: int | None


class BranchView(TypedDict):
    """The hash beside the way to the root at each level; null where there is none."""

    transaction: Hex
    position: int
    branch: list[Hex | None]


class TreeView(BranchView):
    """TRON and UTXO; `coinbase` UTXO only."""

    header: Hex
    coinbase: BranchView | None


class DepositProof(TypedDict):
    """`proves`: whether there is evidence of all of it, or only of its transaction."""

    id: str
    network: str
    family: str
    contractAddress: str | None
    transactionHash: str
    ordinal: int
    toAddress: str
    amountUnits: Units
    blockHeight: int
    blockHash: str
    proves: Literal["amount", "transaction"]
    evidence: TrieView | TreeView


@routes.operation(
    "GET", "/v1/deposits/{id}/proof", needs="read", answer=DepositProof, refuses=(409,)
)
async def prove_deposit(call: Call) -> DepositProof:
    """Give evidence of a deposit, from its transaction's bytes to its block's hash.

    409 if it is orphaned, or its block is no longer kept by any node or can't be proved.
    """
    deposit = await _find(call)
    if deposit.state is State.ORPHANED:
        raise Conflict(f"deposit {deposit.id} is orphaned: its block left the chain")
    place, transfer = deposit.place, transfer_of(deposit)
    try:
        proof = await call.context.proofs(deposit.network, place.height, place.hash, transfer)
    except Refused as refusal:
        raise Conflict(str(refusal)) from None
    return proof_view(deposit, call.context.codecs[deposit.network], proof)


def proof_view(deposit: Deposit, codec: Codec, proof: Proof) -> DepositProof:
    return {
        "id": deposit.id,
        "network": deposit.network,
        "family": codec.family,
        "contractAddress": codec.format_asset(deposit.asset) if deposit.asset else None,
        "transactionHash": codec.format_hash(deposit.tx),
        "ordinal": deposit.ordinal,
        "toAddress": codec.format_address(deposit.address),
        "amountUnits": str(deposit.units),
        "blockHeight": deposit.place.height,
        "blockHash": codec.format_hash(deposit.place.hash),
        "proves": "amount" if proof.amount else "transaction",
        "evidence": _evidence(proof.evidence),
    }


async def _find(call: Call) -> Deposit:
    """The deposit of the path, if the caller may see it."""
    row = await call.context.pool.fetchrow(
        """
        select * from deposit
         where id = $1 and network = any ($2) and account = coalesce($3, account)
        """,
        call.path["id"],
        list(call.context.codecs),
        call.account,
    )
    if row is None:
        raise missing("deposit", call.path["id"])
    return deposit_from(row)


def _evidence(evidence: Evidence) -> TrieView | TreeView:
    if isinstance(evidence, TreeEvidence):
        coinbase = None if evidence.coinbase is None else _branch(evidence.coinbase)
        return {
            "header": evidence.header.hex(),
            **_branch(evidence.branch),
            "coinbase": coinbase,
        }
    return {
        "header": evidence.header.hex(),
        "key": evidence.key.hex(),
        "transaction": [node.hex() for node in evidence.transaction],
        "receipt": [node.hex() for node in evidence.receipt],
        "logIndex": evidence.log,
    }


def _branch(branch: Branch) -> BranchView:
    return {
        "transaction": branch.transaction.hex(),
        "position": branch.position,
        "branch": [None if each is None else each.hex() for each in branch.beside],
    }
