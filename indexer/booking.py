"""What one transaction does with proved blocks: find, place again, orphan, promote, and store.

The caller has a transaction open and holds the fence (the cursor moved by compare-and-swap, or the
stored headers of its blocks). Nothing here reads the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import asyncpg

from indexer import ledger, spendings
from indexer.balances import NO_CHECKS, Checks, agrees
from indexer.chains import Codec, Header, Transfer
from indexer.database import parts
from indexer.model import (
    Coin,
    Decision,
    Deposit,
    Moment,
    Place,
    Reason,
    State,
    at_least,
    classify,
    make_id,
)

Identity: TypeAlias = tuple[bytes, bytes, bytes, int]  # transaction, address, asset, ordinal


@dataclass(frozen=True, slots=True)
class Found:
    """A block's transfers that may concern somebody."""

    header: Header
    transfers: list[Transfer]

    @property
    def place(self) -> Place:
        return Place(
            self.header.height, self.header.hash, datetime.fromtimestamp(self.header.time, UTC)
        )


@dataclass(frozen=True, slots=True)
class Watcher:
    """An account's registration of an address."""

    account: str
    reference: str | None
    own: bool
    covered_from: int
    removed_from: int | None
    silent: Sequence[asyncpg.Range]  # blocks whose deposits make no callbacks

    def watches(self, height: int) -> bool:
        """Whether it was not removed yet by that block."""
        return self.removed_from is None or height < self.removed_from

    def owns(self, account: str, height: int) -> bool:
        """Whether the address was that account's own wallet by that block."""
        return self.own and self.account == account and self.watches(height)

    def is_silent(self, height: int) -> bool:
        return any(blocks.lower <= height < blocks.upper for blocks in self.silent)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an operator who has past blocks read again lets a booking do."""

    all_history: bool = False  # credit what lies below the coverage of address or coin, too
    silent: bool = False  # what is found or moves on makes no callbacks


COVERED: Final = Terms()


class Booking:
    """One transaction's work on one network's deposits."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        network: str,
        codec: Codec,
        confirmations: int | None,
        moment: Moment,
        terms: Terms = COVERED,
    ) -> None:
        """`confirmations`: the network's own setting, None for "finalized"."""
        self._connection = connection
        self._network = network
        self._codec = codec
        self._confirmations = confirmations
        self._moment = moment
        self._terms = terms
        self._coins: dict[bytes, Coin] = {}
        self._deposits: dict[str, Deposit] = {}  # by id: every row this transaction touches
        # What `store` does with deposits of which there may be more than fit into memory at once:
        # all that anybody ever sent of a coin that was inactive. They are locked already.
        self._postponed: list[tuple[list[str], Callable[[Deposit, Moment], None]]] = []
        self._checks = NO_CHECKS
        self._noted: dict[spendings.Outpoint, bytes] = {}  # spent without a word of whose they were

    async def find(
        self, blocks: Sequence[Found], checks: Checks = NO_CHECKS, above: int | None = None
    ) -> None:
        """Book the transfers of blocks that are now on our chain.

        What is stored already is placed again, whatever is watched by now; only what is new is
        matched by today's rules. `above`: load the deposits that a swap displaces as well. Stale
        where a coin wants a balance to agree of which `checks` say nothing.
        """
        self._checks = checks
        txs = list({t.tx for block in blocks for t in block.transfers})
        if not txs and above is None:
            return
        standing: dict[Identity, list[Deposit]] = {}
        for deposit in await ledger.deposits_of(self._connection, self._network, txs, above):
            self._deposits[deposit.id] = deposit
            standing.setdefault(_identity(deposit), []).append(deposit)
        watchers = await self._look_up([t for block in blocks for t in block.transfers])
        for block in blocks:
            for transfer in block.transfers:
                known = standing.get(
                    (transfer.tx, transfer.recipient, transfer.asset, transfer.ordinal), []
                )
                for deposit in known:
                    self._place_again(deposit, block, transfer, watchers)
                accounts = {deposit.account for deposit in known}
                self._match(block, transfer, watchers, accounts)

    async def expect(self, blocks: Sequence[Found], checks: Checks) -> list[Deposit]:
        """What today's rules make of blocks on our chain, whatever is stored.

        `spendings` are noted as by `find`: whoever only wants to know rolls its transaction back.
        """
        self._checks = checks
        watchers = await self._look_up([t for block in blocks for t in block.transfers])
        return [
            deposit
            for block in blocks
            for transfer in block.transfers
            for deposit in self._fresh(block, transfer, watchers)
        ]

    def orphan_displaced(self, above: int, branch: Iterable[Header]) -> None:
        """What the new branch does not have: everything loaded that still stands elsewhere."""
        here = {header.hash for header in branch}
        for deposit in self._deposits.values():
            displaced = deposit.place.height > above and deposit.place.hash not in here
            if displaced and not deposit.unplaced and deposit.state is not State.ORPHANED:
                deposit.orphan(self._moment)

    async def orphan_unplaced(self) -> None:
        """The cursor passed the height it was rewound from: what is missing now is gone."""
        missing = await ledger.unplaced(self._connection, self._network)
        for deposit in self._deposits.values():
            if deposit.unplaced:
                deposit.orphan(self._moment)
        left = [each for each in missing if each not in self._deposits]
        self._postponed.append((left, Deposit.orphan))

    async def promote(self) -> None:
        """Confirm and finalize what is deep enough by now."""
        for deposit in self._deposits.values():
            deposit.settle(self._moment)
        loaded = list(self._deposits)
        for deposit in await ledger.due(self._connection, self._network, self._moment, loaded):
            self._deposits[deposit.id] = deposit
            deposit.settle(self._moment)

    async def require_again(self) -> None:
        """Apply changed settings to what is not confirmed yet."""
        waiting = await ledger.detected(self._connection, self._network)
        await self._load_coins({deposit.asset for deposit in waiting})
        for deposit in waiting:
            coin = self._coins[deposit.asset]
            deposit.require(coin.required(deposit.units, self._confirmations))
            self._deposits[deposit.id] = deposit

    async def release_coin(self, coin: str) -> None:
        """The coin turned active: what waited for that goes on."""
        held = await ledger.held_for_coin(self._connection, coin)
        self._postponed.append((held, Deposit.release))

    async def review(self, deposit_id: str, decision: Decision) -> None:
        """A person decides: Refused where the deposit is in no state for that."""
        deposit = await ledger.deposit(self._connection, deposit_id)
        if decision == "release":
            deposit.release(self._moment)
        else:
            deposit.reject(self._moment)
        self._deposits[deposit.id] = deposit

    @property
    def changed(self) -> int:
        """How many deposits `store` will write."""
        return sum(deposit.changed for deposit in self._deposits.values())

    async def store(self) -> int:
        """Write what changed; returns the number of events made."""
        events = await self._write(self._deposits.values())
        for ids, act in self._postponed:
            for some in parts(ids):
                waiting = await ledger.deposits(self._connection, some)
                for deposit in waiting:
                    act(deposit, self._moment)
                events += await self._write(waiting)
        return events

    # ---------------------------------------------------------------- inside

    async def _write(self, deposits: Iterable[Deposit]) -> int:
        changed = [deposit for deposit in deposits if deposit.changed]
        for deposit in changed if self._terms.silent else ():
            deposit.silent = deposit.silent or deposit.created_at is None or bool(deposit.events)
        await self._load_coins({deposit.asset for deposit in changed})
        return await ledger.store(
            self._connection, changed, self._coins, self._codec, self._moment.now
        )

    async def _look_up(self, transfers: Sequence[Transfer]) -> dict[bytes, list[Watcher]]:
        """Who paid, which coins, and who watches: what `_fresh` judges transfers by."""
        # First what these blocks pay, then what they spend: one may spend what another pays.
        watched = await self._watched({t.recipient for t in transfers if t.concealed})
        await spendings.remember(self._connection, self._network, transfers, watched)
        self._noted = await spendings.recall(self._connection, self._network, transfers)
        await self._load_coins({transfer.asset for transfer in transfers})
        return await self._watchers(transfers)

    async def _load_coins(self, assets: set[bytes]) -> None:
        if missing := assets - self._coins.keys():
            self._coins |= await ledger.coins(self._connection, self._network, missing)

    async def _watched(self, keys: set[bytes]) -> set[bytes]:
        """Those of some addresses that anybody registered."""
        if not keys:
            return set()
        rows = await self._connection.fetch(
            "select address from watched_address where network = $1 and address = any ($2)",
            self._network,
            list(keys),
        )
        return {row["address"] for row in rows}

    async def _watchers(self, transfers: Sequence[Transfer]) -> dict[bytes, list[Watcher]]:
        """Who registered a recipient or a sender of these blocks, those who removed it too.

        Removal acts from the next block: a scan or a swap may still book what stands before it.
        """
        keys = {t.recipient for t in transfers}
        for transfer in transfers:
            keys |= spendings.payers(transfer, self._noted)
        rows = await self._connection.fetch(
            """
            select address, account, reference, role = 'own' as own, covered_from, removed_from,
                   silent
              from watched_address
             where network = $1 and address = any ($2)
             order by account
            """,
            self._network,
            list(keys),
        )
        watchers: dict[bytes, list[Watcher]] = {}
        for address, *rest in rows:
            watchers.setdefault(address, []).append(Watcher(*rest))
        return watchers

    def _place_again(
        self,
        deposit: Deposit,
        block: Found,
        transfer: Transfer,
        watchers: dict[bytes, list[Watcher]],
    ) -> None:
        if (transfer.units, transfer.sender) != (deposit.units, deposit.sender):
            if deposit.state is not State.ORPHANED:
                deposit.orphan(self._moment)
            self._find_anew(deposit, block, transfer, watchers)
            return
        if deposit.state is State.ORPHANED:
            deposit.revive(block.place, self._moment)
        else:
            deposit.place_again(block.place)
        # Its coin may have turned active while it stood nowhere.
        if deposit.reason is Reason.COIN_INACTIVE and self._coins[deposit.asset].active:
            deposit.release(self._moment)

    def _find_anew(
        self,
        deposit: Deposit,
        block: Found,
        transfer: Transfer,
        watchers: dict[bytes, list[Watcher]],
    ) -> None:
        """The same transaction pays another amount this time: by today's rules, if any fits."""
        for fresh in self._fresh(block, transfer, watchers):
            if fresh.id == deposit.id:
                deposit.units, deposit.sender, deposit.place = (
                    fresh.units,
                    fresh.sender,
                    fresh.place,
                )
                deposit.required = fresh.required
                deposit.first_state, deposit.first_reason = fresh.first_state, fresh.first_reason
                deposit.find(self._moment)

    def _match(
        self,
        block: Found,
        transfer: Transfer,
        watchers: dict[bytes, list[Watcher]],
        known: set[str],
    ) -> None:
        for deposit in self._fresh(block, transfer, watchers):
            if deposit.account not in known:
                self._deposits[deposit.id] = deposit
                deposit.find(self._moment)

    def _fresh(
        self, block: Found, transfer: Transfer, watchers: dict[bytes, list[Watcher]]
    ) -> Iterable[Deposit]:
        """The deposits that today's rules make of a transfer: one an account that covers it."""
        height, coin = block.header.height, self._coins.get(transfer.asset)
        if coin is None or not self._covers(coin.covered_from, height):
            return
        payers = spendings.payers(transfer, self._noted)
        for watcher in watchers.get(transfer.recipient, []):
            covered = self._covers(watcher.covered_from, height)
            if watcher.own or not covered or not watcher.watches(height):
                continue
            own = {
                key
                for key in payers
                if key == transfer.recipient  # change beside other inputs
                or any(w.owns(watcher.account, height) for w in watchers.get(key, []))
            }
            checked = coin.balance_check and not transfer.odd
            state, reason = classify(
                coin,
                transfer.units,
                odd=transfer.odd,
                own=bool(own),
                foreign=payers != own,
                agrees=agrees(self._checks, block.header.hash, transfer) if checked else True,
            )
            yield Deposit(
                account=watcher.account,
                network=self._network,
                tx=transfer.tx,
                address=transfer.recipient,
                asset=transfer.asset,
                ordinal=transfer.ordinal,
                id=self._id(watcher.account, transfer),
                coin=coin.id,
                units=transfer.units,
                sender=transfer.sender,
                place=block.place,
                reference=watcher.reference,
                required=at_least(
                    coin.required(transfer.units, self._confirmations), transfer.maturity
                ),
                maturity=transfer.maturity,
                first_state=state,
                first_reason=reason,
                silent=watcher.is_silent(height),
            )

    def _covers(self, covered_from: int, height: int) -> bool:
        return self._terms.all_history or height >= covered_from

    def _id(self, account: str, transfer: Transfer) -> str:
        return make_id(
            "dep_",
            account,
            self._network,
            self._codec.format_hash(transfer.tx),
            self._codec.format_address(transfer.recipient),
            self._codec.format_asset(transfer.asset),
            str(transfer.ordinal),
        )


def _identity(deposit: Deposit) -> Identity:
    return (deposit.tx, deposit.address, deposit.asset, deposit.ordinal)


def transfer_of(deposit: Deposit) -> Transfer:
    """What the chain did, as the deposit keeps it."""
    return Transfer(
        tx=deposit.tx,
        asset=deposit.asset,
        recipient=deposit.address,
        ordinal=deposit.ordinal,
        units=deposit.units,
        sender=deposit.sender,
        maturity=deposit.maturity,
    )
