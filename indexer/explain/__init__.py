"""Why a transaction did or did not become a deposit and a callback, step by step.

Nodes are asked first, then the database in one snapshot; what each says is put in sentences.
Nothing is written, and nothing is said of an account that was not asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import asyncpg
from typing_extensions import TypedDict

from indexer.chains import Codec
from indexer.explain.cases import Subject, cases_of
from indexer.explain.facts import Question, deposits_of, gather
from indexer.explain.nodes import Elsewhere, Look, Reach, look, look_elsewhere
from indexer.explain.steps import Step, StepName, stopped_at, transaction_steps
from indexer.explain.ways import Way, way
from indexer.secret import Vault

MAX_WAYS: Final = 100  # shown of a transaction's transfers; those of somebody come first


class Rules(Protocol):
    @property
    def required(self) -> int | None: ...  # confirmations; None: "finalized"


class Explanation(TypedDict):
    """The steps of a transaction, and of each of its transfers.

    `stoppedAt`: the first step that did not pass, null where the transaction's own all did;
    `omitted`: transfers that are not shown.
    """

    network: str
    transactionHash: str
    blockHeight: int | None
    blockHash: str | None
    stoppedAt: StepName | None
    steps: list[Step]
    transfers: list[Way]
    omitted: int


@dataclass(frozen=True)
class Explainer:
    """`networks` and `codecs` have the same keys: the configured networks."""

    pool: asyncpg.Pool
    vault: Vault
    networks: Mapping[str, Rules]
    codecs: Mapping[str, Codec]
    reach: Reach

    async def explain(self, network: str, text: str, account: str | None) -> Explanation:
        """`account` None: all of them. Refused where the hash is none of that network."""
        codec = self.codecs[network]
        tx = codec.parse_hash(text)
        stored = await deposits_of(self.pool, network, tx, account)
        seen = await look(self.reach, network, tx, stored)
        elsewhere = Elsewhere()
        if seen.sighting is None and seen.problem is None:
            others = {name: each for name, each in self.codecs.items() if name != network}
            elsewhere = await look_elsewhere(self.reach, others, text)
        facts = await gather(self.pool, self.vault, _question(network, tx, account, seen))
        required = self.networks[network].required
        subject = Subject(network, codec, required, seen, facts, account)
        return _explanation(subject, codec.format_hash(tx), elsewhere)


def _question(network: str, tx: bytes, account: str | None, seen: Look) -> Question:
    """What the database is asked after the nodes have spoken."""
    return Question(
        network,
        tx,
        account,
        None if seen.sighting is None else seen.sighting.height,
        frozenset(transfer.asset for transfer in seen.transfers),
        frozenset(transfer.recipient for transfer in seen.transfers),
    )


def _explanation(subject: Subject, name: str, elsewhere: Elsewhere) -> Explanation:
    sighting, cases = subject.look.sighting, cases_of(subject)
    block = None if sighting is None else sighting.block
    steps = list(transaction_steps(subject, name, elsewhere))
    return {
        "network": subject.network,
        "transactionHash": name,
        "blockHeight": None if sighting is None else sighting.height,
        "blockHash": None if block is None else subject.codec.format_hash(block),
        "stoppedAt": stopped_at(steps),
        "steps": steps,
        "transfers": [way(case) for case in cases[:MAX_WAYS]],
        "omitted": max(0, len(cases) - MAX_WAYS),
    }
