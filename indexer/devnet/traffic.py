"""A scripted-random source of traffic for the demo and tests: payments, noise, cheats, reorgs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Final, Generic

from indexer.chains import NATIVE
from indexer.devnet.chain import B, Chain, Transaction, W
from indexer.devnet.evm_contracts import (
    Collectible,
    Disperser,
    Proxy,
    Rejecter,
    Token,
    call_data,
)
from indexer.devnet.truth import Due, Identity, deposits_due

PAYERS: Final = 5
STRANGERS: Final = 8
REORG_DEPTH: Final = 3  # blocks, at most
REORG_EVERY: Final = (4, 9)  # steps between two reorganisations, at least and at most
REORG_LONGER: Final = (1, 2)  # blocks by which a new branch is longer, at least and at most
CANCELLED: Final = 0.2  # part of a reorganised block's transactions that are double-spent
HELD_BACK: Final = 0.15  # that wait for a later block
FAILED: Final = 0.1  # that fail this time
PER_STEP: Final = (1, 4)  # pieces of traffic before a block
ETHER: Final = 10**18  # wei
PLENTY: Final = 10**30  # base units that payers have of each coin
TOO_MUCH: Final = 10**40  # that nobody has

TRANSFER: Final = "transfer(address,uint256)"


@dataclass(frozen=True, slots=True)
class Step(Generic[B]):
    """What a step did: new blocks, of which the first `depth` replaced others (0: none did)."""

    blocks: Sequence[B]
    depth: int


class Traffic(Generic[B, W]):
    """Pays `addresses` over `chain`, in every way that must count and in some that must not."""

    unit: ClassVar[int] = ETHER  # base units of native coin that a payment stays below

    def __init__(self, chain: Chain[B, W], addresses: Sequence[bytes], rng: Random) -> None:
        self.chain = chain
        self.addresses = list(addresses)
        self._rng = rng
        self._first = chain.head.number + 1
        self._until_reorg = rng.randint(*REORG_EVERY)
        self._failing: set[bytes] = set()
        self._payers = [chain.wallet(f"payer {n}") for n in range(PAYERS)]
        self._strangers = [chain.wallet(f"stranger {n}").address for n in range(STRANGERS)]
        self._nft = chain.deploy("collectible", Collectible())
        self._rejecter = chain.deploy("rejecter", Rejecter())
        disperser = chain.deploy("disperser", Disperser())
        self._vault = chain.deploy("vault", Proxy(disperser))  # pays by its own funds
        chain.endow(NATIVE, self._vault, PLENTY)
        self._decimals: dict[bytes, int] = {}
        self._dollar = self._issue("dollar", Token("Simulated Dollar", "SIMD", 6))
        self._lenient = self._issue("lenient", Token("Lenient Coin", "LEN", 18, lenient=True))
        self._fake = self._issue("fake", Token("Simulated Dollar", "SIMD", 6))
        self._kinds: list[tuple[Callable[[], None], int]] = [
            (self._pay_native, 6),
            (self._pay_token, 6),
            (self._disperse_tokens, 3),
            (self._trickle_native, 3),
            (self._raffle, 2),
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

    def due(self) -> dict[Identity, Due]:
        """What the chain, as it stands, has paid to the addresses since this traffic began."""
        return deposits_due(
            self.chain.branch(self._first), self.addresses, (NATIVE, *self.tokens), internal=True
        )

    def step(self) -> Step[B]:
        """New traffic and a block with it; now and then a reorganisation instead of the block."""
        self._until_reorg -= 1
        depth = min(self._rng.randint(1, REORG_DEPTH), self.chain.head.number - self._first + 1)
        if self._until_reorg <= 0 and depth > 0:
            self._until_reorg = self._rng.randint(*REORG_EVERY)
            return self._reorganise(depth)
        kinds, weights = zip(*self._kinds, strict=True)
        for queue in self._rng.choices(kinds, weights, k=self._rng.randint(*PER_STEP)):
            queue()
        return self.quiet()

    def quiet(self) -> Step[B]:
        """A block without new traffic; what waits in the mempool is mined."""
        return Step([self.chain.mine(fail=self._failing)], 0)

    def _reorganise(self, depth: int) -> Step[B]:
        replaced = self.chain.branch(self.chain.head.number - depth + 1)
        fates: dict[str, set[bytes]] = {"cancel": set(), "hold": set(), "fail": set(self._failing)}
        for tx in (each.transaction.hash for block in replaced for each in block.executed):
            drawn = self._rng.random()
            for fate, part in (("cancel", CANCELLED), ("hold", HELD_BACK), ("fail", FAILED)):
                if 0 <= drawn < part:
                    fates[fate].add(tx)
                drawn -= part
        blocks = self.chain.reorg(depth, longer=self._rng.randint(*REORG_LONGER), **fates)
        return Step(blocks, depth)

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

    def _odd_transfer(self) -> None:
        """A listed token's Transfer in a shape unlike the standard's: held (P11)."""
        arguments = self._watched(), self._units(self._dollar)
        self._send(self._dollar, 0, call_data("oddTransfer(address,uint256)", *arguments))

    def _fail_native(self) -> None:
        """To a watched address, with value, but out of gas (P1)."""
        self._failing.add(self._send(self._watched(), self.unit).hash)

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

    def _send(self, to: bytes, value: int, data: bytes = b"") -> Transaction:
        payer: W = self._rng.choice(self._payers)
        return self.chain.send(payer, to, value, data)

    def _transfer(self, token: bytes, to: bytes, units: int | None = None) -> None:
        amount = self._units(token) if units is None else units
        self._send(token, 0, call_data(TRANSFER, to, amount))

    def _watched(self) -> bytes:
        return self._rng.choice(self.addresses)

    def _stranger(self) -> bytes:
        return self._rng.choice(self._strangers)

    def _token(self) -> bytes:
        return self._rng.choice(self.tokens)

    def _units(self, token: bytes) -> int:
        """Up to a thousand of them."""
        return self._rng.randrange(1, 1000 * 10 ** self._decimals[token])
