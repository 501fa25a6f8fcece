"""What an endpoint may be: every bad field is named at once, and no value of a header with it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Final

import asyncpg

from callbacks.endpoints import Given
from callbacks.guard import check_url
from callbacks.headers import check_headers
from callbacks.health import Notice
from callbacks.resolver import check_answers
from indexer.api.context import Context
from indexer.api.inputs import bad_field, refusal
from indexer.model import COUNTED, Refused, parse_amount

DEPOSIT_EVENTS: Final = tuple(f"deposit.{state}" for state in COUNTED)
OPERATOR_EVENTS: Final = tuple(notice.value for notice in Notice)
DEPOSIT_FILTERS: Final = {"networks": "networks", "coins": "coins", "min_amount": "minAmount"}
MASK: Final = "********"  # stands for a header's value, which may be a password
_KNOWN_COINS: Final = "select id from coin where id = any ($1)"

Bad = dict[str, str]  # an entry of a refusal's details


async def check(given: Given, context: Context, account: str | None) -> None:
    """Problem (400) that names every bad field; hosts are looked up last, when all else is good.

    `account` None: of an operator's own endpoint.
    """
    bad = [*_check_filters(given, context, account), *_check_headers(given)]
    for coin in await _unknown_coins(context.pool, given.get("coins") or ()):
        bad.append(bad_field("coins", "there is no such coin", coin))
    if "url" in given:
        bad += await _check_url(given["url"], context, look_up=not bad)
    if bad:
        raise refusal(bad)


def _check_filters(given: Given, context: Context, account: str | None) -> Iterator[Bad]:
    types = OPERATOR_EVENTS if account is None else DEPOSIT_EVENTS
    for pattern in given.get("events") or ():
        if not fnmatch.filter(types, pattern):
            yield bad_field("events", f"matches none of {', '.join(types)}", pattern)
    for network in given.get("networks") or ():
        if network not in context.codecs:
            yield bad_field("networks", "there is no such network", network)
    if account is None:
        for name, field in DEPOSIT_FILTERS.items():
            if given.get(name) is not None:
                yield bad_field(field, "an operator's own endpoint is told of no deposits")
    amount = given.get("min_amount")
    if amount is not None:
        try:
            parse_amount(amount, decimals=len(amount.partition(".")[2]))
        except Refused as error:
            yield bad_field("minAmount", str(error))


def _check_headers(given: Given) -> Iterator[Bad]:
    headers = given.get("headers") or {}
    try:
        check_headers(headers)
    except Refused as error:
        yield bad_field("headers", str(error))
    if MASK in headers.values():
        yield bad_field("headers", f"{MASK} stands for a value that is not shown: give the value")


async def _check_url(text: str | None, context: Context, *, look_up: bool) -> list[Bad]:
    if text is None:
        return [bad_field("url", "can't be null")]
    try:
        url = check_url(text, context.settings.callbacks)
        if look_up:
            await check_answers(url, context.settings.callbacks)
    except Refused as error:
        return [bad_field("url", str(error))]
    return []


async def _unknown_coins(pool: asyncpg.Pool, coins: Sequence[str]) -> list[str]:
    known = {row["id"] for row in await pool.fetch(_KNOWN_COINS, coins)} if coins else set()
    return [coin for coin in coins if coin not in known]
