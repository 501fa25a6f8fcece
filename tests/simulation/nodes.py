"""The nodes of a simulated network: one chain, and what each node knows and says of it.

The chain is the devnet's, with real hashes, tries and signatures; the adapter that asks is the
program's own, down to the bytes of each answer. Only HTTP is left out.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from random import Random
from typing import Any, Final

import orjson

from indexer.chains.rpc import Endpoint, EndpointFailed, TooSlow, Transport
from indexer.devnet.evm_block import Block
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.evm_traffic import EvmTraffic
from indexer.devnet.evm_wallet import Wallet

FAR_SECONDS: Final = 0.1  # that an answer travels at most
SILENT_SECONDS: Final = 5.0  # after which a call to a node that is down fails
RECEIPTS: Final = "eth_getBlockReceipts"
BLOCKS: Final = ("eth_getBlockByNumber", "eth_getBlockByHash")
ANYTHING: Final = "0x" + "5a" * 32


class Chain(SimulatedChain):
    """Can be looked at as it was."""

    def as_seen(self, branch: Sequence[Block]) -> SimulatedChain:
        """The same chain for a node that knows this branch."""
        seen = copy.copy(self)
        seen._branch = list(branch)
        return seen

    def every(self) -> Iterable[Block]:
        """Whatever was mined, on any branch."""
        return self._blocks.values()


class Payments(EvmTraffic[Block, Wallet]):
    """The demo's traffic, a block or a reorganisation at a time."""

    def block(self, choices: Random, *payees: bytes) -> None:
        """`payees`: whom it pays, whomever else."""
        self._rng = choices
        for payee in payees:
            self._send(payee, choices.randrange(1, self.unit))
        kinds, weights = zip(*self._kinds, strict=True)
        for pay in choices.choices(kinds, weights, k=choices.randrange(4)):
            pay()
        self._mine()

    def fork(self, choices: Random, depth: int, longer: int, lost: float) -> None:
        """`lost`: part of the transactions that it takes away, and as large a part waits."""
        self._rng = choices
        cancel, hold = self._some(lost, self._mined(depth)), self._some(lost, self._mined(depth))
        self.chain.reorg(depth, longer=longer, cancel=cancel, hold=hold)


class Mood(Enum):
    """What a node does to its answers. What it says can be checked, save that it knows no more."""

    HONEST = "honest"
    DOWN = "down"
    BREAKING = "breaking off"  # now and then
    NO_BLOCK = "lacks blocks"
    NO_RECEIPTS = "answers empty"
    LESS_LOGS = "leaves out a log"
    OTHER_AMOUNT = "names another amount"
    OTHER_BLOCK = "answers with another block"


LIES: Final = tuple(mood for mood in Mood if mood is not Mood.HONEST)


class Node:
    """One endpoint: what it has seen of the chain, and how it is."""

    def __init__(self, name: str, chain: Chain) -> None:
        self.secret = f"key-of-{name}"
        self.url = f"https://{name}.example/{self.secret}"
        self.mood = Mood.HONEST
        self.stuck = False  # it learns nothing new
        self.told: dict[Mood, int] = dict.fromkeys(Mood, 0)  # answers, by mood that changed them
        self._chain = chain
        self.sync()

    def sync(self, behind: int = 0) -> None:
        """Learn the branch as it stands now, but for its last blocks."""
        branch = self._chain.branch()
        self._node = EvmNode(self._chain.as_seen(branch[: max(1, len(branch) - behind)]))

    def answer(self, body: bytes, choices: Random) -> bytes:
        calls = orjson.loads(body)
        if isinstance(calls, list):
            return orjson.dumps([self._reply(call, choices) for call in calls])
        return orjson.dumps(self._reply(calls, choices))

    def _reply(self, call: dict[str, Any], choices: Random) -> dict[str, Any]:
        reply: dict[str, Any] = self._node.answer(call)
        if self.mood is Mood.HONEST or not reply.get("result"):
            return reply
        altered = _altered(self.mood, call["method"], reply["result"], choices)
        if altered is not reply["result"]:
            self.told[self.mood] += 1
        return reply | {"result": altered}


def _altered(mood: Mood, method: str, result: Any, choices: Random) -> Any:
    """An answer as a node in that mood gives it."""
    match mood:
        case Mood.NO_BLOCK if method in BLOCKS and choices.random() < 0.5:
            return None
        case Mood.NO_RECEIPTS if method == RECEIPTS:
            return []
        case Mood.LESS_LOGS if method == RECEIPTS:
            return _less_logs(result, choices)
        case Mood.OTHER_AMOUNT if method in BLOCKS and isinstance(result["transactions"], list):
            return _other_amount(result, choices)
        case Mood.OTHER_BLOCK if method in BLOCKS and choices.random() < 0.5:
            return result | {"hash": ANYTHING}
    return result


def _less_logs(receipts: list[dict[str, Any]], choices: Random) -> list[dict[str, Any]]:
    those = [at for at, receipt in enumerate(receipts) if receipt["logs"]]
    if not those:
        return receipts
    changed, at = list(receipts), choices.choice(those)
    logs = list(receipts[at]["logs"])
    del logs[choices.randrange(len(logs))]
    changed[at] = receipts[at] | {"logs": logs}
    return changed


def _other_amount(block: dict[str, Any], choices: Random) -> dict[str, Any]:
    transactions = list(block["transactions"])
    if not transactions or not isinstance(transactions[0], dict):
        return block
    at = choices.randrange(len(transactions))
    transactions[at] = transactions[at] | {"value": hex(choices.randrange(10**18))}
    return block | {"transactions": transactions}


class Wire(Transport):
    """Carries one process's requests to the nodes."""

    def __init__(
        self,
        nodes: Sequence[Node],
        clock: Callable[[], float],
        choices: Random,
        alive: Callable[[], None],
    ) -> None:
        """`alive` raises CancelledError where the process that asks is dead."""
        super().__init__(clock=clock, jitter=choices.random)
        self._nodes = {node.url: node for node in nodes}
        self._choices = choices
        self._alive = alive

    async def _send(self, endpoint: Endpoint, method: str, path: str, body: bytes | None) -> bytes:
        self._alive()
        node = self._nodes[str(endpoint.at(path))]
        await asyncio.sleep(self._choices.random() * FAR_SECONDS)
        if node.mood is Mood.DOWN:
            node.told[Mood.DOWN] += 1
            await asyncio.sleep(SILENT_SECONDS)
            raise TooSlow(f"{endpoint.name} gave no answer")
        if node.mood is Mood.BREAKING and self._choices.random() < 0.5:
            node.told[Mood.BREAKING] += 1
            raise EndpointFailed(f"{endpoint.name} broke off in the middle of its answer")
        answer = node.answer(body or b"", self._choices)
        await asyncio.sleep(self._choices.random() * FAR_SECONDS)
        return answer
