"""A Bitcoin-like chain in memory: wallets of every kind, blocks with their work done.

Payers never run out: what they spend is invented.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from indexer.chains.utxo_network import NETWORKS
from indexer.chains.utxo_parse import HEADER_BYTES
from indexer.chains.utxo_proof import double_sha256, work
from indexer.devnet.chain import MemoryChain, unix_clock
from indexer.devnet.utxo_auxpow import merge_mine
from indexer.devnet.utxo_block import Input, Output, Transaction, body, coinbase, middle, mine
from indexer.devnet.utxo_genesis import genesis
from indexer.devnet.utxo_mweb import close
from indexer.devnet.utxo_wallet import Kind, UtxoWallet

CHAIN: Final = "regtest"
REWARD: Final = 50 * 10**8  # base units
COIN_UNITS: Final = 10**12  # that each invented coin has
ANYONE: Final = b"\x51"  # a script that anyone can spend


@dataclass(frozen=True, slots=True)
class Block:
    """A mined block. Hashes as they are shown."""

    number: int
    header: bytes  # with a parent's work, where it was merge-mined
    raw: bytes
    hash: bytes
    parent: bytes
    time: int
    work: int  # of the chain up to it
    transactions: Sequence[Transaction]


class SimulatedUtxoChain(MemoryChain[Block, Transaction]):
    """A coin's regtest. Of Dogecoin's blocks every other one is merge-mined."""

    def __init__(self, seed: int, coin: str = "btc", clock: Callable[[], int] = unix_clock) -> None:
        super().__init__(seed, clock)
        self.network = NETWORKS[coin, CHAIN]
        self._wallets: dict[bytes, UtxoWallet] = {}  # who can spend an outpoint
        self._leaving: list[Output] = []  # paid out of Litecoin's next extension block
        self._coins = 0
        first = genesis(coin)
        self._add(first[:HEADER_BYTES], first[HEADER_BYTES:], [])

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

    def spender(self, spent: Input) -> UtxoWallet | None:
        """Whose coin an input spends; None: nobody's, as a coinbase's."""
        return self._wallets.get(spent.outpoint)

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

    def peg_out(self, *outputs: tuple[bytes, int]) -> None:
        """Let the next block pay these out of Litecoin's extension block."""
        if not self.network.mweb:
            raise ValueError("this chain has no extension blocks")
        self._leaving += [Output(units, script) for script, units in outputs]

    # ---------------------------------------------------------------- blocks

    def transactions(self, block: Block) -> Sequence[Transaction]:
        return [tx for tx in block.transactions[1:] if not tx.closing]

    def mine(
        self, pick: Collection[bytes] | None = None, reward: bytes = ANYONE, bits: int | None = None
    ) -> Block:
        """`reward`: the script that the miner is paid to; `bits`: how hard the block is to find."""
        mined = [tx for tx in self._mempool if pick is None or tx.hash in pick]
        self._mempool = [tx for tx in self._mempool if tx not in mined]
        self._append(mined, reward, bits)
        return self.head

    # ---------------------------------------------------------------- inside

    def _instead(self, tx: Transaction) -> Transaction:
        """Its inputs are spent otherwise."""
        spent = [each.outpoint for each in tx.inputs]
        inputs = tuple(self._wallets[outpoint].spend(outpoint) for outpoint in spent)
        return Transaction(inputs, (Output(1, ANYONE),))

    def _append(self, mined: Sequence[Transaction], reward: bytes, bits: int | None) -> None:
        number, others, extension = self.head.number + 1, list(mined), b""
        if self._leaving:
            closing, extension = close(number, self._leaving, self._rng)
            self._leaving = []
            others.append(closing)
        extra = self._rng.randbytes(8)  # makes siblings differ
        transactions = [coinbase(number, extra, Output(REWARD, reward), others), *others]
        moment = max(self._clock(), self.head.time + 1)
        header = self._header(number, middle(self.head.hash[::-1], moment, transactions), bits)
        self._add(header, body(transactions) + extension, transactions)

    def _header(self, number: int, between: bytes, bits: int | None) -> bytes:
        chain_id = self.network.auxpow
        if chain_id is None or number % 2:
            return mine(self.network, between, bits=bits)
        bits = self.network.easiest if bits is None else bits
        return merge_mine(self.network, chain_id, between, bits, self._rng)

    def _add(self, header: bytes, rest: bytes, transactions: Sequence[Transaction]) -> None:
        before = self._branch[-1].work if self._branch else 0
        block = Block(
            number=len(self._branch),
            header=header,
            raw=header + rest,
            hash=double_sha256(header[:HEADER_BYTES])[::-1],
            parent=header[4:36][::-1],
            time=int.from_bytes(header[68:72], "little"),
            work=before + work(header[:HEADER_BYTES]),
            transactions=transactions,
        )
        self._branch.append(block)
        self._blocks[block.hash] = block
