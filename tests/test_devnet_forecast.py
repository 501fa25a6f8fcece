"""What the demo holds the engine against: the foretold events, the screen."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest

from indexer.chains import NATIVE
from indexer.devnet.forecast import Forecast, Name, Step, differences, early, read_history, without
from indexer.devnet.screen import Screen, amount, short
from indexer.devnet.truth import Due, Identity

PAYEE, PAYER = b"\x11" * 20, b"\x22" * 20
IDENTITY: Identity = (b"\xaa" * 32, PAYEE, NATIVE, 0)
NAME: Name = ("evm", "0x" + "aa" * 32, "0x" + "11" * 20, "native", 0)


def due(
    height: int, units: int = 5, *, odd: bool = False, block: int = 0, maturity: int = 0
) -> Due:
    return Due(units, PAYER, height, bytes([block]) * 32, odd, maturity)


def steps(*observed: tuple[Due | None, int, int]) -> tuple[Step, ...]:
    """The deposit's steps, with 3 confirmations, after (what is owed, head, finalized) each."""
    forecast = Forecast(3)
    for owed, head, finalized in observed:
        forecast.observe({} if owed is None else {IDENTITY: owed}, head, finalized)
    return forecast.steps([PAYEE], []).get(IDENTITY, ())


def kinds(*observed: tuple[Due | None, int, int]) -> list[str]:
    return [kind for kind, _ in steps(*observed)]


def test_a_deposit_is_detected_confirmed_by_depth_and_finalized_after() -> None:
    one = due(10)
    assert kinds((one, 10, 0)) == ["detected"]
    assert kinds((one, 10, 0), (one, 11, 0)) == ["detected"]
    assert kinds((one, 10, 0), (one, 12, 9)) == ["detected", "confirmed"]
    assert kinds((one, 10, 10)) == ["detected"]  # final, but never before it is confirmed
    assert kinds((one, 12, 10)) == ["detected", "confirmed", "finalized"]


def test_a_lost_deposit_is_orphaned_once_and_comes_back_from_the_start() -> None:
    one = due(10)
    assert kinds((one, 12, 0), (None, 13, 0), (None, 14, 0)) == [
        "detected",
        "confirmed",
        "orphaned",
    ]
    assert kinds((one, 10, 0), (None, 11, 0), (due(12), 12, 0)) == [
        "detected",
        "orphaned",
        "detected",
    ]


def test_mined_again_alike_is_quiet_and_otherwise_is_found_anew() -> None:
    assert steps((due(10), 10, 0), (due(9, block=1), 10, 0)) == (("detected", 5),)
    assert steps((due(10), 10, 0), (due(10, 6, block=1), 10, 0)) == (
        ("detected", 5),
        ("orphaned", 5),
        ("detected", 6),
    )


def test_an_odd_one_is_held_and_never_confirmed() -> None:
    assert kinds((due(10, odd=True), 30, 20)) == ["held"]


@pytest.mark.pitfall("P88")
def test_new_money_is_confirmed_once_it_matured() -> None:
    one = due(10, maturity=100)
    assert kinds((one, 108, 103)) == ["detected"]
    assert kinds((one, 109, 103)) == ["detected", "confirmed", "finalized"]


def test_only_open_deposits_ask_for_more_blocks() -> None:
    forecast = Forecast(3)
    for owed, head, finalized, unfinished in (
        ({IDENTITY: due(10)}, 10, 0, 1),
        ({IDENTITY: due(10)}, 12, 0, 1),
        ({IDENTITY: due(10)}, 16, 10, 0),
    ):
        forecast.observe(owed, head, finalized)
        assert forecast.unfinished() == unfinished


def test_another_accounts_deposits_are_not_foretold_to_it() -> None:
    forecast = Forecast(3)
    forecast.observe({IDENTITY: due(10)}, 10, 0)
    assert forecast.steps([b"\x33" * 20], []) == {}


@pytest.mark.pitfall("P19")
def test_what_an_accounts_own_wallet_pays_is_foretold_to_others_only() -> None:
    forecast = Forecast(3)
    forecast.observe({IDENTITY: due(10)}, 10, 0)
    assert forecast.steps([PAYEE], [PAYER]) == {}
    assert forecast.steps([PAYEE], [PAYEE]) == {IDENTITY: (("detected", 5),)}


def test_an_odd_one_is_held_whoever_paid_it() -> None:
    forecast = Forecast(3)
    forecast.observe({IDENTITY: due(10, odd=True)}, 10, 0)
    assert forecast.steps([PAYEE], [PAYER]) == {IDENTITY: (("held", 5),)}


def event(kind: str, units: int = 5) -> dict[str, Any]:
    data = {
        "network": NAME[0],
        "transactionHash": NAME[1],
        "toAddress": NAME[2],
        "contractAddress": None,
        "ordinal": 0,
        "amountUnits": str(units),
    }
    return {"type": f"deposit.{kind}", "data": data}


def test_differences_name_what_is_missing_surplus_wrong_or_out_of_order() -> None:
    expected = {NAME: (("detected", 5), ("confirmed", 5), ("finalized", 5))}
    good = [event("detected"), event("confirmed"), event("finalized")]
    assert list(differences(expected, read_history(good))) == []
    assert list(differences(without("finalized", expected), read_history(good[:2]))) == []
    for bad in (good[:2], [*good, event("orphaned")], good[1:], [good[1], good[0], good[2]], []):
        (sentence,) = differences(expected, read_history(bad))
        assert "expected detected 5, confirmed 5, finalized 5, got " in sentence
    (sentence,) = differences(expected, read_history([event("detected", 6), *good[1:]]))
    assert "got detected 6" in sentence
    (sentence,) = differences({}, read_history(good))
    assert "expected nothing" in sentence


def test_what_lags_is_late_and_what_is_not_due_yet_is_early() -> None:
    due_now = {NAME: (("detected", 5), ("confirmed", 5))}
    told = [event("detected"), event("confirmed"), event("finalized")]
    assert [list(early(due_now, read_history(told[:n]))) for n in range(3)] == [[], [], []]
    for bad in (told, told[1:], [event("detected", 6)], [event("orphaned")]):
        (sentence,) = early(due_now, read_history(bad))
        assert "expected detected 5, confirmed 5, got " in sentence
    (sentence,) = early({}, read_history(told[:1]))
    assert "expected nothing, got detected 5" in sentence


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_screen_is_aligned_and_coloured_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    noon = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
    plain, terminal = io.StringIO(), Terminal()
    data = {"network": "utxo", "amount": "1.50", "symbol": "BTC", "status": "held"}
    for out in (plain, terminal):
        screen = Screen(out, lambda: noon)
        screen.line("block", "evm", "12", "x")
        screen.step("callback", "shop", data, short("0x" + "ab" * 32))
    first, second = plain.getvalue().splitlines()
    assert first == "12:00:00  evm   block     12  x"
    assert second == (
        "12:00:00  utxo  callback  shop         1.50                 BTC   held       0xabab…ababab"
    )
    coloured, other = terminal.getvalue().splitlines()
    assert coloured == "12:00:00  \x1b[94mevm \x1b[0m  \x1b[2mblock     12  x\x1b[0m"
    assert "\x1b[95mutxo\x1b[0m" in other
    monkeypatch.setenv("NO_COLOR", "1")
    silent = Terminal()
    Screen(silent, lambda: noon).line("block", "evm", "12", "x")
    assert silent.getvalue() == first + "\n"


def test_amounts_stand_with_their_dots_below_each_other() -> None:
    shown = [amount(text, "SIM") for text in ("1.50", "250", "0.123456789012345678")]
    assert [line.index(".") for line in shown if "." in line] == [4, 4]
    assert {len(line) for line in shown} == {28}
