"""Traffic of the simulated TRON chain: what every chain sees, and what only TRON has."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar, Final

from indexer.devnet.evm_traffic import EvmTraffic
from indexer.devnet.tron_block import Block
from indexer.devnet.tron_chain import SimulatedTron
from indexer.devnet.tron_wallet import Wallet

TRX: Final = 10**6  # sun
TRC10_DECIMALS: Final = 6


class TronTraffic(EvmTraffic[Block, Wallet]):
    """Pays `addresses` in TRX, TRC-20 and TRC-10, with the noise and the cheats of TRON."""

    unit: ClassVar[int] = 1000 * TRX

    def __init__(self, chain: SimulatedTron, addresses: Sequence[bytes], rng: Random) -> None:
        super().__init__(chain, addresses, rng)
        self._tron = chain
        owners = [payer.address for payer in self._payers]
        self.trc10 = chain.issue("SIMT", TRC10_DECIMALS, owners)
        self._named_usdt = chain.issue("USDT", TRC10_DECIMALS, owners)
        self._kinds += [
            (self._pay_trc10, 4),
            (self._pay_named_usdt, 2),
            (self._delegate_energy, 2),
            (self._run_out_of_energy, 2),
        ]

    @property
    def assets(self) -> tuple[bytes, ...]:
        return (*self.tokens, self.trc10)

    def _pay_trc10(self) -> None:
        self._tron.send_trc10(self._payer(), self._watched(), self.trc10, self._amount())

    def _pay_named_usdt(self) -> None:
        """A TRC-10 token that anybody may call USDT (P69)."""
        self._tron.send_trc10(self._payer(), self._watched(), self._named_usdt, self._amount())

    def _delegate_energy(self) -> None:
        """It names TRX and a watched address, and moves nothing (P71, P84)."""
        self._tron.delegate(self._payer(), self._watched(), self._amount())

    def _run_out_of_energy(self) -> None:
        """A dollar transfer whose call data is right, and that never happened (P67)."""
        self._transfer(self.tokens[0], self._watched())
        self.chain.failing.add(self.chain.waiting[-1].hash)

    def _amount(self) -> int:
        return self._rng.randrange(1, self.unit)
