"""A Bitcoin-like chain in memory: wallets, a mempool, blocks on demand, and reorganisations.

Deterministic: the same seed, clock and calls give the same hashes. Synchronous: between two calls
nobody sees half a reorganisation. Anything wrongly asked of it is a ValueError.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from indexer.chains.utxo_network import NETWORKS
from indexer.chains.utxo_parse import HEADER_BYTES
from indexer.chains.utxo_proof import double_sha256, work
from indexer.devnet.utxo_block import Input, Output, Transaction, assemble, coinbase
from indexer.devnet.utxo_genesis import genesis
from indexer.devnet.utxo_wallet import Kind, UtxoWallet

CHAIN: Final = "regtest"
REWARD: Final = 50 * 10**8  # base units
COIN_UNITS: Final = 10**12  # that each invented coin has
ANYONE: Final = b"\x51"  # a script that anyone can spend


def unix_clock() -> int:
    return int(time.time())


@dataclass(frozen=True, slots=True)
class Block:
    """A mined block. Hashes as they are shown."""

    number: int
    raw: bytes
    hash: bytes
    parent: bytes
    time: int
    work: int  # of the chain up to it
    transactions: Sequence[Transaction]


class SimulatedUtxoChain:
    """A chain that mines when told to. Payers never run out: what they spend is invented."""

    def __init__(self, seed: int, coin: str = "btc", clock: Callable[[], int] = unix_clock) -> None:
        self.network = NETWORKS[coin, CHAIN]
        self._seed = seed
        self._rng = Random(seed)
        self._clock = clock
        self._wallets: dict[bytes, UtxoWallet] = {}  # who can spend an outpoint
        self._mempool: list[Transaction] = []
        self._blocks: dict[bytes, Block] = {}  # every block there ever was
        self._branch: list[Block] = []  # the chain as it stands, by number
        self._coins = 0
        self._add(genesis(coin), [])

    # ---------------------------------------------------------------- who and what exists

    def wallet(self, name: str, kind: Kind = Kind.P2PKH) -> UtxoWallet:
        """The key of that name and kind."""
        secret = hashlib.sha256(f"depositd devnet {self._seed} {kind} {name}".encode()).digest()
        return UtxoWallet(secret, kind, segwit=self.network.segwit is not None)

    def coin(self, wallet: UtxoWallet) -> Input:
        """An input that spends a coin which the wallet had from before our time."""
        self._coins += 1
        made_up = f"depositd devnet {self._seed} coin {self._coins}".encode()
        outpoint = hashlib.sha256(made_up).digest() + bytes(4)
        self._wallets[outpoint] = wallet
        return wallet.spend(outpoint)

    def spend(self, wallet: UtxoWallet, txid: bytes, index: int) -> Input:
        """An input that spends a transaction's output; `txid` as it is shown."""
        outpoint = txid[::-1] + index.to_bytes(4, "little")
        self._wallets[outpoint] = wallet
        return wallet.spend(outpoint)

    # ---------------------------------------------------------------- transactions

    def send(self, inputs: Sequence[Input], *outputs: tuple[bytes, int]) -> Transaction:
        """Into the mempool. An input that waits there already is double-spent: the newer one stays
        (replace by fee)."""
        tx = Transaction(tuple(inputs), tuple(Output(units, script) for script, units in outputs))
        spent = {each.outpoint for each in inputs}
        self._mempool = [
            old for old in self._mempool if not spent & {each.outpoint for each in old.inputs}
        ]
        self._mempool.append(tx)
        return tx

    def pay(self, payer: UtxoWallet, *outputs: tuple[bytes, int]) -> Transaction:
        """The same by one coin of one payer, with change."""
        return self.send([self.coin(payer)], *outputs, (payer.script, COIN_UNITS))

    # ---------------------------------------------------------------- blocks

    @property
    def head(self) -> Block:
        return self._branch[-1]

    def block_at(self, number: int) -> Block | None:
        return self._branch[number] if 0 <= number < len(self._branch) else None

    def block(self, block_hash: bytes) -> Block | None:
        """Any block there ever was: nodes keep side branches."""
        return self._blocks.get(block_hash)

    def is_canonical(self, block: Block) -> bool:
        return self.block_at(block.number) is block

    def branch(self, first: int = 0, last: int | None = None) -> Sequence[Block]:
        """The blocks of the chain as it stands, from one number to another."""
        return self._branch[first : None if last is None else last + 1]

    def mine(
        self, pick: Collection[bytes] | None = None, reward: bytes = ANYONE, bits: int | None = None
    ) -> Block:
        """The next block, with all of the mempool, or only those in `pick` (hashes).

        `reward`: the script that the miner is paid to; `bits`: how hard it is to find.
        """
        mined = [tx for tx in self._mempool if pick is None or tx.hash in pick]
        self._mempool = [tx for tx in self._mempool if tx not in mined]
        self._append(mined, reward, bits)
        return self.head

    def rewind(self, depth: int) -> list[Transaction]:
        """Take the last `depth` blocks away; their transactions wait in the mempool again."""
        if not 0 < depth <= self.head.number:
            raise ValueError(f"can't take {depth} blocks from a chain of {self.head.number}")
        removed = self._branch[-depth:]
        del self._branch[-depth:]
        again = [tx for block in removed for tx in block.transactions[1:]]
        self._mempool = again + self._mempool
        return again

    def reorg(
        self,
        depth: int,
        *,
        longer: int = 0,
        cancel: Collection[bytes] = (),
        hold: Collection[bytes] = (),
    ) -> list[Block]:
        """Replace the last `depth` blocks by `depth + longer` others; returns those.

        Their transactions are mined again at random places among the first `depth`. `cancel`: not
        those, their inputs are spent otherwise. `hold`: not these, they wait in the mempool.
        """
        again = self.rewind(depth)
        for tx in again:
            if tx.hash in cancel:
                spent = [each.outpoint for each in tx.inputs]
                self.send([self._wallets[each].spend(each) for each in spent], (ANYONE, 1))
        waiting = [tx for tx in self._mempool if tx not in again]
        mined = [tx for tx in again if tx in self._mempool and tx.hash not in hold]
        self._rng.shuffle(mined)
        held = [tx for tx in again if tx.hash in hold]
        self._mempool = mined + held + waiting
        cuts = sorted(self._rng.randint(0, len(mined)) for _ in range(depth - 1))
        for first, last in itertools.pairwise([0, *cuts, len(mined)]):
            self.mine(pick={tx.hash for tx in mined[first:last]})
        for _ in range(longer):
            self.mine(pick=())
        return self._branch[-depth - longer :]

    # ---------------------------------------------------------------- inside

    def _append(self, mined: Sequence[Transaction], reward: bytes, bits: int | None) -> None:
        extra = self._rng.randbytes(8)  # makes siblings differ
        first = coinbase(self.head.number + 1, extra, Output(REWARD, reward), mined)
        moment = max(self._clock(), self.head.time + 1)
        raw = assemble(self.network, self.head.hash[::-1], moment, [first, *mined], bits)
        self._add(raw, [first, *mined])

    def _add(self, raw: bytes, transactions: Sequence[Transaction]) -> None:
        before = self._branch[-1].work if self._branch else 0
        block = Block(
            number=len(self._branch),
            raw=raw,
            hash=double_sha256(raw[:HEADER_BYTES])[::-1],
            parent=raw[4:36][::-1],
            time=int.from_bytes(raw[68:72], "little"),
            work=before + work(raw[:HEADER_BYTES]),
            transactions=transactions,
        )
        self._branch.append(block)
        self._blocks[block.hash] = block
