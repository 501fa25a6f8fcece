"""Traffic of the simulated Bitcoin-like chains: outputs of every kind, and who paid for them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from indexer.chains import NATIVE
from indexer.devnet.traffic import PAYERS, STRANGERS, Traffic
from indexer.devnet.truth import NOBODY, Due, Identity
from indexer.devnet.utxo_block import Transaction, sized
from indexer.devnet.utxo_chain import Block, SimulatedUtxoChain
from indexer.devnet.utxo_wallet import Kind, UtxoWallet

COIN: Final = 10**8  # base units
MOST: Final = 10 * COIN  # base units that an output stays below
CHANGE: Final = 100 * COIN  # base units that come back to a payer
FEE: Final = 1000  # base units by which a replacement outbids what it replaces
REWARDED: Final = 0.2  # part of the blocks whose miner is watched
# Kinds whose spending names the address; what the others spend was invented, and tells nobody.
REVEALING: Final = (Kind.P2PKH, Kind.P2SH, Kind.P2WPKH, Kind.P2WSH)


class UtxoTraffic(Traffic[Block, SimulatedUtxoChain]):
    """Pays `wallets`, of which one at least is a bare key's, by wallets of every kind."""

    def __init__(
        self, chain: SimulatedUtxoChain, wallets: Sequence[UtxoWallet], rng: Random
    ) -> None:
        super().__init__(chain, [wallet.address for wallet in wallets], rng)
        self._wallets = list(wallets)
        self._bare = {w.script: w.address for w in wallets if w.kind is Kind.P2PK}
        kinds = list(Kind)
        self._payers = [chain.wallet(f"payer {n}", kinds[n]) for n in range(PAYERS)]
        self._strangers = [
            chain.wallet(f"stranger {n}", kinds[n % len(kinds)]) for n in range(STRANGERS)
        ]
        self._hot = chain.wallet("hot", Kind.P2WPKH)
        self.own = self._hot.address
        self._kinds += [
            (self._pay, 8),
            (self._pay_equally, 3),
            (self._pay_many, 3),
            (self._pay_together, 2),
            (self._outbid, 2),
            (self._double_spend, 2),
            (self._refill, 2),
            (self._sweep, 2),
            (self._pay_with_change, 2),
            (self._pay_bare_key, 1),
            (self._pay_no_address, 2),
            (self._pay_nothing, 1),
            (self._pay_stranger, 4),
        ]

    def due(self) -> dict[Identity, Due]:
        """Each output of more than nothing to one of the addresses, its own change aside."""
        due: dict[Identity, Due] = {}
        for block in self.chain.branch(self._first):
            for tx in block.transactions:
                sender, minted = self._sender(tx), tx is block.transactions[0]
                for index, output in enumerate(tx.outputs):
                    payee = self._bare.get(output.script, output.script)
                    if payee not in self.addresses or not output.units or payee == sender:
                        continue
                    due[tx.hash, payee, NATIVE, index] = Due(
                        units=output.units,
                        sender=sender,
                        height=block.number,
                        hash=block.hash,
                        odd=output.script in self._bare,
                        maturity=self.chain.network.maturity if minted else 0,
                    )
        return due

    def _sender(self, tx: Transaction) -> bytes:
        spenders = [self.chain.spender(each) for each in tx.inputs]
        payers = {wallet.address for wallet in spenders if wallet is not None}
        return payers.pop() if len(payers) == 1 else NOBODY

    def _mine(self) -> Block:
        """Now and then a watched address is the miner's: nothing to credit for long (P88)."""
        if self._rng.random() < REWARDED:
            return self.chain.mine(reward=self._watched())
        return self.chain.mine()

    # ---------------------------------------------------------------- kinds of traffic

    def _pay(self) -> None:
        self._send([self._payer()], (self._watched(), self._units()))

    def _pay_equally(self) -> None:
        """Three outputs alike to one address: three deposits (P89)."""
        equal = self._watched(), self._units()
        self._send([self._payer()], equal, equal, equal)

    def _pay_many(self) -> None:
        """As an exchange pays its users, some of ours among them."""
        payees = [self._watched(), self._stranger().script, self._watched()]
        self._send([self._payer()], *[(payee, self._units()) for payee in payees])

    def _pay_together(self) -> None:
        """Two strangers pay one output: nobody can say who sent it."""
        self._send(self._rng.sample(self._payers, 2), (self._watched(), self._units()))

    def _outbid(self) -> None:
        """The same payment for a higher fee: the first one is never mined (P87, P98)."""
        payer, paid = self._payer(), (self._watched(), self._units())
        coin = self.chain.coin(payer)
        for change in (CHANGE, CHANGE - FEE):
            self.chain.send([coin], paid, (payer.script, change))

    def _double_spend(self) -> None:
        """A payment whose payer takes it back while it waits (P87)."""
        payer = self._payer()
        coin = self.chain.coin(payer)
        self.chain.send([coin], (self._watched(), self._units()))
        self.chain.send([coin], (payer.script, CHANGE))

    def _refill(self) -> None:
        """The hot wallet pays a user: internal to whom it belongs (P19)."""
        self._send([self._hot], (self._watched(), self._units()))

    def _sweep(self) -> None:
        """Users' coins go to the hot wallet, which is no deposit."""
        coins = [self.chain.coin(user) for user in self._rng.sample(self._wallets, 2)]
        self.chain.send(coins, (self._hot.script, self._units()))

    def _pay_with_change(self) -> None:
        """A watched address pays somebody, and its change is no deposit (P113)."""
        payer = self._rng.choice([w for w in self._wallets if w.kind in REVEALING])
        self._send([payer], (self._stranger().script, self._units()))

    def _pay_bare_key(self) -> None:
        """An output to a watched address's key instead: held (P92)."""
        self._send([self._payer()], (self._rng.choice(list(self._bare)), self._units()))

    def _pay_no_address(self) -> None:
        """A multisig with a watched key, and data that seems to pay (P91, P94)."""
        key, script = self._rng.choice(self._wallets).pubkey, self._watched()
        either = b"\x51" + sized(key) + sized(self._stranger().pubkey) + b"\x52\xae"
        self._send([self._payer()], (either, self._units()), (b"\x6a" + sized(script), COIN))

    def _pay_nothing(self) -> None:
        self._send([self._payer()], (self._watched(), 0))

    def _pay_stranger(self) -> None:
        self._send([self._payer()], (self._stranger().script, self._units()))

    # ---------------------------------------------------------------- small parts

    def _send(self, payers: Sequence[UtxoWallet], *outputs: tuple[bytes, int]) -> None:
        """A coin of each, and change to the first."""
        coins = [self.chain.coin(payer) for payer in payers]
        self.chain.send(coins, *outputs, (payers[0].script, CHANGE))

    def _payer(self) -> UtxoWallet:
        return self._rng.choice(self._payers)

    def _stranger(self) -> UtxoWallet:
        return self._rng.choice(self._strangers)

    def _units(self) -> int:
        return self._rng.randrange(1, MOST)
