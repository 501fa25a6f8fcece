"""Traffic of the simulated chains with contracts: what every one of them sees."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar, Final, Generic

from indexer.chains import NATIVE
from indexer.devnet.chain import Transaction
from indexer.devnet.contract_chain import ContractChain, E, W
from indexer.devnet.evm_contracts import (
    Collectible,
    Disperser,
    Proxy,
    Rejecter,
    Token,
    call_data,
)
from indexer.devnet.traffic import PAYERS, STRANGERS, Step, Traffic
from indexer.devnet.truth import Due, Identity, deposits_due

FAILED: Final = 0.1  # part of a reorganised block's transactions that fail this time
ETHER: Final = 10**18  # wei
PLENTY: Final = 10**30  # base units that payers have of each coin
TOO_MUCH: Final = 10**40  # that nobody has

TRANSFER: Final = "transfer(address,uint256)"


class EvmTraffic(Traffic[E, ContractChain[E, Any, W]], Generic[E, W]):
    """Pays in native coin and tokens, by keys and by contracts."""

    unit: ClassVar[int] = ETHER  # base units of native coin that a payment stays below

    def __init__(
        self, chain: ContractChain[E, Any, W], addresses: Sequence[bytes], rng: Random
    ) -> None:
        super().__init__(chain, addresses, rng)
        self._payers = [chain.wallet(f"payer {n}") for n in range(PAYERS)]
        self._strangers = [chain.wallet(f"stranger {n}").address for n in range(STRANGERS)]
        self._hot = chain.wallet("hot")
        self.own = self._hot.address
        self._nft = chain.deploy("collectible", Collectible())
        self._rejecter = chain.deploy("rejecter", Rejecter())
        disperser = chain.deploy("disperser", Disperser())
        self._vault = chain.deploy("vault", Proxy(disperser))  # pays by its own funds
        chain.endow(NATIVE, self._vault, PLENTY)
        self._decimals: dict[bytes, int] = {}
        self._dollar = self._issue("dollar", Token("Simulated Dollar", "SIMD", 6))
        self._lenient = self._issue("lenient", Token("Lenient Coin", "LEN", 18, lenient=True))
        self._fake = self._issue("fake", Token("Simulated Dollar", "SIMD", 6))
        self._kinds += [
            (self._pay_native, 6),
            (self._pay_token, 6),
            (self._disperse_tokens, 3),
            (self._trickle_native, 3),
            (self._raffle, 2),
            (self._refill, 2),
            (self._odd_transfer, 1),
            (self._fail_native, 1),
            (self._revert_all, 1),
            (self._pay_without_funds, 2),
            (self._pay_fake, 2),
            (self._mint_collectible, 1),
            (self._pay_nothing, 1),
            (self._pay_stranger, 4),
        ]

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """The token contracts to register; others of their symbol are fakes."""
        return (self._dollar, self._lenient)

    @property
    def assets(self) -> tuple[bytes, ...]:
        return self.tokens

    def due(self) -> dict[Identity, Due]:
        blocks, assets = self.chain.branch(self._first), (NATIVE, *self.assets)
        return deposits_due(blocks, self.addresses, assets, internal=True)

    def _reorganise(self, depth: int) -> Step[E]:
        """Some fail this time, and may succeed in the next branch."""
        doomed = self.chain.failing
        self.chain.failing = doomed | self._some(FAILED, self._mined(depth))
        step = super()._reorganise(depth)
        self.chain.failing = doomed
        return step

    # ---------------------------------------------------------------- kinds of traffic

    def _pay_native(self) -> None:
        self._send(self._watched(), self._rng.randrange(1, self.unit))

    def _pay_token(self) -> None:
        self._transfer(self._token(), self._watched())

    def _disperse_tokens(self) -> None:
        """Several in one transaction, one payee twice with the same amount (P5, P21)."""
        payees = [self._watched() for _ in range(self._rng.randint(2, 4))]
        token = self._token()
        units = [self._units(token) for _ in payees]
        arguments = token, [*payees, payees[0]], [*units, units[0]]
        signature = "disperseToken(address,address[],uint256[])"
        self._send(self._vault, 0, call_data(signature, *arguments))

    def _trickle_native(self) -> None:
        """Internal payments around one that reverts (P24, P25, P38)."""
        payees = [self._watched(), self._rejecter, self._watched(), self._stranger()]
        amounts = [self._rng.randrange(1, self.unit) for _ in payees]
        self._send(self._vault, 0, call_data("trickle(address[],uint256[])", payees, amounts))

    def _raffle(self) -> None:
        """Another amount whenever it is mined in another block."""
        self._send(self._vault, 0, call_data("raffle(address,uint256)", self._watched(), self.unit))

    def _refill(self) -> None:
        """The hot wallet pays and is paid: neither is a deposit to whom it belongs (P19)."""
        self._send(self._watched(), self._rng.randrange(1, self.unit), payer=self._hot)
        self._send(self.own, self._rng.randrange(1, self.unit))

    def _odd_transfer(self) -> None:
        """A listed token's Transfer in a shape unlike the standard's: held (P11)."""
        arguments = self._watched(), self._units(self._dollar)
        self._send(self._dollar, 0, call_data("oddTransfer(address,uint256)", *arguments))

    def _fail_native(self) -> None:
        """To a watched address, with value, but out of gas (P1)."""
        self.chain.failing.add(self._send(self._watched(), self.unit).hash)

    def _revert_all(self) -> None:
        """Pays two, and the third reverts the whole (P26)."""
        payees = [self._watched(), self._watched(), self._rejecter]
        data = call_data("disperse(address[],uint256[])", payees, [self.unit] * 3)
        self._send(self._vault, 0, data)

    def _pay_without_funds(self) -> None:
        """The dollar reverts; the lenient token returns false and says nothing (P3)."""
        self._transfer(self._token(), self._watched(), TOO_MUCH)

    def _pay_fake(self) -> None:
        """A contract of the same name and symbol that nobody registered (P6)."""
        self._transfer(self._fake, self._watched())

    def _mint_collectible(self) -> None:
        data = call_data("mint(address,uint256)", self._watched(), self._rng.getrandbits(80))
        self._send(self._nft, 0, data)

    def _pay_nothing(self) -> None:
        """Zero-value transfers need nobody's leave: address poisoning (P20)."""
        self._transfer(self._token(), self._watched(), 0)
        arguments = self._watched(), self._watched(), 0
        data = call_data("transferFrom(address,address,uint256)", *arguments)
        self._send(self._dollar, 0, data)

    def _pay_stranger(self) -> None:
        self._send(self._stranger(), self._rng.randrange(1, self.unit))
        self._transfer(self._token(), self._stranger())

    # ---------------------------------------------------------------- small parts

    def _issue(self, name: str, token: Token) -> bytes:
        """Deploy it, with enough of it for everyone who pays."""
        address = self.chain.deploy(name, token)
        self._decimals[address] = token.decimals
        for owner in (self._vault, *(payer.address for payer in self._payers)):
            self.chain.endow(address, owner, PLENTY)
        return address

    def _send(
        self, to: bytes, value: int, data: bytes = b"", payer: W | None = None
    ) -> Transaction:
        tx: Transaction = self.chain.send(payer or self._payer(), to, value, data)
        return tx

    def _transfer(self, token: bytes, to: bytes, units: int | None = None) -> None:
        amount = self._units(token) if units is None else units
        self._send(token, 0, call_data(TRANSFER, to, amount))

    def _payer(self) -> W:
        return self._rng.choice(self._payers)

    def _stranger(self) -> bytes:
        return self._rng.choice(self._strangers)

    def _token(self) -> bytes:
        return self._rng.choice(self.tokens)

    def _units(self, token: bytes) -> int:
        """Up to a thousand of them."""
        return self._rng.randrange(1, 1000 * 10 ** self._decimals[token])
