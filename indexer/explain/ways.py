"""The steps of one transfer for one account: coin, address, amount, deposit, callbacks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from typing_extensions import TypedDict

from indexer.api.shapes import Amount, Units
from indexer.explain.callbacks import callback_steps
from indexer.explain.cases import Case
from indexer.explain.steps import Step, StepName, ended, hindrance, passed, stopped_at, waits
from indexer.model import Coin, Deposit, Reason, State, format_amount

REVIEW: Final = "an admin decides: `POST /v1/deposits/{id}/release` or `…/reject`"

_HELD: Final = {
    Reason.COIN_INACTIVE: "its coin was inactive",
    Reason.UNKNOWN_SHAPE: "it is shaped unlike its standard, so that nobody can be sure of it",
    Reason.BALANCE_MISMATCH: "the address's balance does not show what the event says",
    Reason.BALANCE_UNKNOWN: "no node could say the address's balance at its block",
    Reason.ABOVE_CAP: "it is above the coin's maxAutoAmount",
    Reason.MIXED_INPUTS: "the account's own wallets and others paid it together",
    Reason.BELOW_MINIMUM: "it is below the coin's minDepositAmount",
    Reason.INTERNAL: "the account's own address sent it",
}


class Way(TypedDict):
    """What became of one transfer for one account; `stoppedAt` null: it came through."""

    account: str | None
    coin: str | None
    contractAddress: str | None
    toAddress: str
    ordinal: int
    amount: Amount | None
    amountUnits: Units
    deposit: str | None
    status: State | None
    stoppedAt: StepName | None
    steps: list[Step]


def way(case: Case) -> Way:
    steps = [*_coin(case), *_address(case), *_amount(case)]
    steps += _deposit(case, stopped=stopped_at(steps) is not None)
    coin, transfer, deposit = case.coin, case.transfer, case.deposit
    return {
        "account": case.account,
        "coin": None if coin is None else coin.id,
        "contractAddress": case.subject.codec.format_asset(transfer.asset)
        if transfer.asset
        else None,
        "toAddress": case.subject.codec.format_address(transfer.recipient),
        "ordinal": transfer.ordinal,
        "amount": None if coin is None else format_amount(transfer.units, coin.decimals),
        "amountUnits": str(transfer.units),
        "deposit": None if deposit is None else deposit.id,
        "status": None if deposit is None else deposit.state,
        "stoppedAt": stopped_at(steps),
        "steps": steps,
    }


# ------------------------------------------------------------------------------ coin, address


def _coin(case: Case) -> Iterator[Step]:
    coin, height, network = case.coin, case.height, case.subject.network
    if coin is None:
        name = case.subject.codec.format_asset(case.transfer.asset)
        yield ended(
            "coin",
            f"{name} is no registered coin on {network}: a token counts by its contract alone",
            "if it is the genuine one, an admin registers it: `POST /v1/coins` with fromBlock "
            f"{height}",
        )
        return
    covered = f"{coin.id} is covered from block {coin.covered_from}"
    if height < coin.covered_from and case.deposit is None:
        yield ended("coin", f"{covered}: block {height} is below that", _below(case))
        return
    inactive = "" if coin.active else ", but inactive: what comes is held"
    yield passed("coin", f"{covered}{inactive}")


def _below(case: Case) -> str:
    at = f"--from {case.height} --to {case.height}"
    return f"`depositd scan {case.subject.network} {at} --all-history` credits it nevertheless"


def _address(case: Case) -> Iterator[Step]:
    watcher, height = case.watcher, case.height
    name = case.subject.codec.format_address(case.transfer.recipient)
    again = f"`POST /v1/addresses` with fromBlock {height}"
    if watcher is None:
        others = case.subject.facts.elsewhere.get(case.transfer.recipient, [])
        also = f"; it is on {', '.join(others)}" if others else ""
        whose = f" by {case.subject.asked_for}" if case.subject.asked_for else ""
        yield ended(
            "address",
            f"{name} is not registered{whose} on {case.subject.network}{also}",
            f"register it: {again} reads its block again",
        )
        return
    covered = f"{name} is watched by {watcher.account} from block {watcher.covered_from}"
    gone = watcher.removed_from is not None and height >= watcher.removed_from
    if case.deposit is not None:
        yield passed("address", covered)
    elif gone:
        yield ended(
            "address",
            f"{name} was removed: {watcher.account} has not watched it from block "
            f"{watcher.removed_from} on",
            f"register it again: {again}",
        )
    elif watcher.own:
        yield ended(
            "address",
            f"{name} is an own wallet of {watcher.account}: what it receives is no deposit",
            "register it again with the role deposit, if it is none",
        )
    elif height < watcher.covered_from:
        yield ended(
            "address",
            f"{covered}: block {height} is below that, it was registered too late",
            f"register it again: {again} reads what is missing",
        )
    else:
        yield passed("address", covered)


# ------------------------------------------------------------------------------ amount, deposit


def _amount(case: Case) -> Iterator[Step]:
    coin, units = case.coin, case.transfer.units
    if coin is None:
        return

    def text(amount: int) -> str:
        return format_amount(amount, coin.decimals)

    limits = f"minimum {text(coin.minimum)}, "
    limits += "no maximum" if coin.cap is None else f"maximum without a person {text(coin.cap)}"
    said = f"{text(units)} {coin.symbol} ({limits})"
    if case.deposit is None and units < coin.minimum:
        yield ended("amount", f"{said}: it is below the minimum and will be ignored")
    else:
        yield passed("amount", f"{said}: {_asked(case, coin)}")


def _asked(case: Case, coin: Coin) -> str:
    """How deep it has to be, and by which rule."""
    units, deposit = case.transfer.units, case.deposit
    tier = next((each for each in coin.tiers if units <= each.up_to), None)
    required = coin.required(units, case.subject.required) if deposit is None else deposit.required
    maturity = case.transfer.maturity if deposit is None else deposit.maturity
    if required is None:
        return "confirmed when the network calls its block final"
    if maturity >= required:
        return f"{maturity} confirmations, as the chain asks of what a miner is paid"
    rule = "the network's"
    if tier is not None:
        rule = f"of amounts up to {format_amount(tier.up_to, coin.decimals)}"
    elif coin.confirmations is not None or coin.tiers:
        rule = "the coin's"
    return f"{required} confirmations ({rule})"


def _deposit(case: Case, *, stopped: bool) -> Iterator[Step]:
    deposit = case.deposit
    if deposit is not None:
        yield from _standing(case, deposit)
        yield from callback_steps(deposit, case.subject.facts)
    elif not stopped and case.subject.read:
        yield _missing(case)


def _missing(case: Case) -> Step:
    """Everything says that there must be one."""
    if case.subject.facts.scanning:
        return waits(
            "deposit",
            f"block {case.height} is to be read again for what was registered since: a scan "
            "is on its way",
            "wait; a process must run the role scanner",
        )
    watcher = case.watcher
    if watcher is not None and watcher.active_from is None:
        return waits("deposit", "its address is about to turn active", "wait a moment")
    at = f"{case.subject.network} --from {case.height} --to {case.height}"
    return ended(
        "deposit",
        "there should be a deposit, and there is none",
        f"`depositd replay {at}` compares, `depositd scan {at}` puts it back",
    )


def _standing(case: Case, deposit: Deposit) -> Iterator[Step]:
    name = f"{deposit.id} is {deposit.state}"
    if deposit.unplaced:
        yield waits(
            "deposit",
            f"{name}, but {case.subject.network} was rewound and it is not found again yet",
            "wait until the old height is passed",
        )
        return
    match deposit.state:
        case State.ORPHANED:
            yield ended(
                "deposit",
                f"{name}: block {deposit.place.height} left the chain, and what replaced it does "
                "not have it",
                "wait until it is mined again, or ask the sender for what replaced it",
            )
        case State.IGNORED:
            yield ended("deposit", f"{name}: {_reason(deposit)}", REVIEW.split(" or ")[0])
        case State.HELD:
            first = "an admin sets it ACTIVE: `PUT /v1/coins`"
            inactive = deposit.reason is Reason.COIN_INACTIVE
            yield waits("deposit", f"{name}: {_reason(deposit)}", first if inactive else REVIEW)
        case State.REJECTED:
            yield ended("deposit", f"{name}: an admin refused it", "the audit log has the note")
        case _:
            yield passed("deposit", name)
            yield _confirmations(case, deposit)


def _reason(deposit: Deposit) -> str:
    return "" if deposit.reason is None else _HELD[deposit.reason]


def _confirmations(case: Case, deposit: Deposit) -> Step:
    cursor, standing = case.subject.facts.cursor, case.subject.facts.standing
    final = None if standing is None else standing["finalized"]
    deep = 0 if cursor is None else max(0, cursor - deposit.place.height + 1)
    said = f"{deep} of {deposit.required} confirmations"
    if deposit.required is None:
        said = f"{deep} confirmations, and its block has to be final"
    if deposit.state is not State.DETECTED:
        last = "" if final is None else f", final up to block {final}"
        return passed("confirmations", f"{said}{last}")
    slow = hindrance(case.subject.network, standing)
    if slow is not None:
        return waits("confirmations", f"{said}; {slow[0]}", slow[1])
    return waits("confirmations", said, "wait for the blocks that follow")
