"""Hostile bodies, numbers, ids and cursors at every operation: a clear 4xx, nothing written.

What is not HTTP at all is in test_api_hostile_wire, calls made up from the document in
test_api_made_up.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

import pytest

from tests.api.probes import PROBES, filled
from tests.api.registered import KEPT, TETHER, create
from tests.api.tables import rows
from tests.api.tenants import LISTS, Names, furnish
from tests.api.world import CODEC, USDT, Answer, World, address

JSON: Final = {"Content-Type": "application/json"}
MAX_SENTENCE: Final = 500  # characters of an error that is still clear
UINT256: Final = str(2**256)


def clear(answer: Answer, *statuses: int) -> None:
    assert answer.status in statuses, answer
    assert 0 < len(answer.error) <= MAX_SENTENCE
    assert answer.error.isprintable()
    assert answer.headers["X-Request-Id"]


@pytest.fixture
async def names(world: World) -> Names:
    """Everything of alice's: what is refused below is refused for what is hostile in it."""
    world.tokens["ethereum", CODEC.parse_asset(USDT)] = TETHER
    assert (await create(world)).status == 201
    return await furnish(world, "alice", 100)


def target(name: str, names: Names) -> str:
    """The operation's path with things of alice's in it, for an admin who acts for her."""
    return f"{filled(PROBES[name][0].target, names).partition('?')[0]}?account=alice"


def operations(world: World, *, body: bool = False, parameter: str = "") -> Iterator[str]:
    """Those of the document that take a JSON body, or the parameter in their query."""
    for path, methods in world.documented.document["paths"].items():
        for method, described in methods.items():
            taken = described.get("requestBody", {}).get("content", {})
            given = [each["name"] for each in described["parameters"] if each["in"] == "query"]
            if (body and "application/json" in taken) or parameter in given:
                yield f"{method.upper()} {path}"


# ---------------------------------------------------------------------------- bodies

BOMB: Final = gzip.compress(b" " * 10_000_000)
BODIES: Final[dict[str, bytes]] = {
    "not JSON": b"{'a': 1}",
    "a comment": b"{} // fine",
    "a comma too many": b'{"a": 1,}',
    "cut": b'{"a": [1, 2',
    "two": b"{}{}",
    "an array": b"[{}]",
    "a text": b'"{}"',
    "a number": b"1",
    "null": b"null",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-16 without a mark": "{}".encode("utf-16-le"),
    "UTF-32": "{}".encode("utf-32"),
    "Latin-1": '{"ä": 1}'.encode("latin-1"),
    "overlong UTF-8": b'{"\xc0\x80": 1}',
    "a surrogate in UTF-8": b'{"\xed\xa0\x80": 1}',
    "beyond Unicode": b'{"\xf4\x90\x80\x80": 1}',
    "half a surrogate": b'{"\\udfff": 1}',
    "NUL": b'{"\\u0000": 1}',
    "a raw control character": b'{"a\n": 1}',
    "a raw NUL": b"{}\0",
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": Infinity}',
    "less than infinity": b'{"a": -Infinity}',
    "1e400": b'{"a": 1e400}',
    "a long number": b'{"a": ' + b"1" * 100_000 + b"}",
    "a long exponent": b'{"a": 1e' + b"9" * 100_000 + b"}",
    "nested": b'{"a":' * 100_000,
    "nested and closed": b'{"a":' * 500 + b"1" + b"}" * 500,
    "arrays in arrays": b'{"a":' + b"[" * 100_000,
    "a field twice": b'{"a": 1, "a": 2}',
    "a field twice below": b'{"a": {"b": 1, "b": 2}}',
    "unknown fields": b"{" + b",".join(b'"x%d": 1' % n for n in range(20_000)) + b"}",
    "a prototype": b'{"__proto__": {"admin": true}}',
    "a long name": b'{"' + b"x" * 100_000 + b'": 1}',
}


async def test_no_operation_takes_a_body_that_is_no_good(
    world: World, names: Names, subtests: pytest.Subtests
) -> None:
    before = await rows(world.pool)
    for name in operations(world, body=True):
        method, at = name.partition(" ")[0], target(name, names)
        for kind, raw in BODIES.items():
            with subtests.test(name, body=kind):
                clear(await world.admin.ask(method, at, data=raw, headers=JSON), 400)
        with subtests.test(name, body="of another kind"):
            for headers in (
                {"Content-Type": "text/json"},
                {"Content-Type": "application/json-patch+json"},
                {"Content-Type": "application/xml"},
                {"Content-Type": "multipart/form-data; boundary=x"},
                {**JSON, "Content-Encoding": "gzip"},
                {**JSON, "Content-Encoding": "gzip, br"},
                {**JSON, "Content-Encoding": "rot13"},
            ):
                for raw in (b"{}", gzip.compress(b"{}"), BOMB):
                    clear(await world.admin.ask(method, at, data=raw, headers=headers), 415)
        assert await rows(world.pool) == before, name


# ---------------------------------------------------------------------------- numbers

NO_NUMBERS: Final = (  # JSON texts that are no number of any field
    *("1e400", "-1e400", "1e-400", "NaN", "Infinity", "-Infinity", "-1", "-0", "-0.0", "9" * 5000),
    *("true", "[]", "{}", '"NaN"', '"Infinity"', '"-1"', '"-0"', '"0x10"', '"1e3"', '"+1"'),
    *('" 1"', '"1 "', '""', '"."', '"1,0"', '"1_000"', '"١"', '"１"', '"\\u0000"', '"1\\n"'),
)
NO_AMOUNTS: Final = (*NO_NUMBERS, '".5"', '"5."', '"1e400"', '"' + "9" * 5000 + '"')
NO_AMOUNTS_OF_SIX_DECIMALS: Final = (  # of which 2^256 - 1 base units are the most
    *("0.30000000000000004", '"0.30000000000000004"', "1e-7", "0.0000001", '"1.0000000"'),
    *(UINT256, f'"{UINT256}"', "1e100"),
)
NO_INTEGERS: Final = (*NO_NUMBERS, UINT256, str(2**63), "1.5", "0.1", "1e3", "1.0", '"5"')
NO_RATES: Final = (
    *("1e400", "NaN", "Infinity", UINT256, "-1", "-0", "0", "1e-9", "true", '"5"', "[]"),
)

# Each operation's numbers, in a body that is good but for them: %s.
AMOUNTS: Final = (
    *(f'{{"coin": "usdt_erc20", "{field}": %s}}' for field in ("minDepositAmount", *KEPT)),
    '{"coin": "usdt_erc20", "maxAutoAmount": %s}',
    '{"coin": "usdt_erc20", "settings": {"minDepositAmount": %s}}',
    '{"coin": "usdt_erc20", "confirmationTiers": [{"upTo": %s, "confirmations": 3}]}',
)
COIN: Final = f'{{"network": "ethereum", "contractAddress": "{address(7)}", "name": "A", '
WATCHED: Final = f'{{"network": "ethereum", "addresses": [{{"address": "{address(9)}", '
HOOK: Final = '{"url": "https://8.8.8.8/", '
NUMBERS: Final[list[tuple[str, tuple[str, ...], str]]] = [
    *(
        ("PUT /v1/coins", (*NO_AMOUNTS, *NO_AMOUNTS_OF_SIX_DECIMALS), body)
        for body in AMOUNTS
        if "useUsdLimits" not in body
    ),
    ("PUT /v1/coins", NO_INTEGERS, '{"coin": "usdt_erc20", "confirmations": %s}'),
    (
        "PUT /v1/coins",
        NO_INTEGERS,
        '{"coin": "usdt_erc20", "confirmationTiers": [{"upTo": "1", "confirmations": %s}]}',
    ),
    ("POST /v1/coins", NO_INTEGERS, COIN + '"symbol": "A", "decimals": %s}'),
    ("POST /v1/coins", NO_INTEGERS, COIN + '"symbol": "A", "decimals": 6, "fromBlock": %s}'),
    ("POST /v1/coins", NO_AMOUNTS, COIN + '"symbol": "A", "decimals": 6, "minDepositAmount": %s}'),
    ("POST /v1/addresses", NO_INTEGERS, WATCHED + '"fromBlock": %s}]}'),
    ("POST /v1/endpoints", NO_AMOUNTS, HOOK + '"minAmount": %s}'),
    ("POST /v1/endpoints", NO_INTEGERS, HOOK + '"concurrency": %s}'),
    ("POST /v1/endpoints", NO_INTEGERS, HOOK + '"heartbeatSeconds": %s}'),
    ("POST /v1/endpoints", NO_RATES, HOOK + '"rateLimit": %s}'),
    ("PATCH /v1/endpoints/{id}", NO_AMOUNTS, '{"minAmount": %s}'),
    ("POST /v1/endpoints/{id}/rotate-secret", NO_INTEGERS, '{"overlapSeconds": %s}'),
    ("POST /v1/accounts/{account}/keys", NO_RATES, '{"scopes": ["read"], "rateLimit": %s}'),
    ("POST /api/spot/v1/deposit/page", NO_INTEGERS, '{"limit": %s}'),
    ("POST /api/spot/v1/deposit/page", NO_INTEGERS, '{"startTime": %s}'),
]


@pytest.mark.pitfall("P41", "P42")
async def test_a_number_that_is_not_exactly_one_of_its_field_is_refused(
    world: World, names: Names, subtests: pytest.Subtests
) -> None:
    before = await rows(world.pool)
    for name, refused, body in NUMBERS:
        method, at = name.partition(" ")[0], target(name, names)
        for number in refused:
            with subtests.test(name, body=body, number=number[:30]):
                if number == '""' and name.startswith("POST /api/spot"):
                    continue  # an empty text means there that nothing was given
                raw = (body % number).encode()
                clear(await world.admin.ask(method, at, data=raw, headers=JSON), 400)
        assert await rows(world.pool) == before, (name, body)


@pytest.mark.pitfall("P41", "P42")
async def test_a_number_that_is_exact_is_kept_to_its_last_digit(world: World, names: Names) -> None:
    """0.1 + 0.2 as a float has it, and the most that a transfer can have."""
    most = 2**256 - 1
    for number, kept in (
        ("0.30000000000000004", "0.300000000000000040"),
        ('"0.30000000000000004"', "0.300000000000000040"),
        (f"{most // 10**18}.{most % 10**18:018d}", f"{most // 10**18}.{most % 10**18:018d}"),
        ("1e18", "1000000000000000000.000000000000000000"),
        ("100e-2", "1.000000000000000000"),
        ("0", "0.000000000000000000"),
    ):
        raw = f'{{"coin": "eth", "maxAutoAmount": {number}}}'.encode()
        changed = await world.admin.ask("PUT", "/v1/coins", data=raw, headers=JSON)
        assert changed.status == 200, (number, changed)
        shown = (await world.alice.get("/v1/coins/eth")).body["settings"]["maxAutoAmount"]
        assert shown == kept


# ---------------------------------------------------------------------------- ids and queries

HOSTILE_TEXTS: Final = (
    *("\0", "\n", "a\r\nX: 1", "\x7f", "\u202e", "\ud800", "é" * 3000, "a" * 9000, " ", "\ufeff"),
    *("' or 1=1 --", "'; drop table deposit; --", '"', "\\", "$1", "%s", "%00", "{id}", "${7*7}"),
    *("../../etc/passwd", "..", ".", "~", "*", "@", "null", "0", "-1", UINT256, "<script>", "💥"),
)


def percent(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


async def test_an_id_that_is_none_is_not_found(
    world: World, names: Names, subtests: pytest.Subtests
) -> None:
    """400 where it is no text at all, or no address of that network."""
    before = await rows(world.pool)
    for name, (probe, *_) in PROBES.items():
        method, path = name.split(" ")
        variables = [each for each in path.split("/") if each.startswith("{")]
        known = filled(probe.target, names).partition("?")[0].split("/")
        for variable in variables:
            place = path.split("/").index(variable)
            for text in HOSTILE_TEXTS:
                if text in (".", ".."):
                    continue  # a client resolves them; those that don't are on the wire
                parts = [*known[:place], percent(text), *known[place + 1 :]]
                body = filled(probe.body, names)
                with subtests.test(name, variable=variable, text=text[:20]):
                    answer = await world.admin.ask(method, "/".join(parts), body)
                    clear(answer, 400, 404)
        assert await rows(world.pool) == before, name


async def test_a_query_that_nobody_gave_a_meaning_is_refused(
    world: World, names: Names, subtests: pytest.Subtests
) -> None:
    before = await rows(world.pool)
    for name in operations(world, parameter="account"):
        method, at = name.partition(" ")[0], target(name, names)
        for query in (
            "colour=red",
            "account=alice",  # again
            "Account=alice",
            "account[]=alice",
            "%00=1",
            "x" * 9000,
            "&".join(f"x{number}=1" for number in range(5000)),
        ):
            with subtests.test(name, query=query[:20]):
                clear(await world.admin.ask(method, f"{at}&{query}"), 400)
        for text in HOSTILE_TEXTS:
            with subtests.test(name, account=text[:20]):
                asked = f"{at.partition('?')[0]}?account={percent(text)}"
                clear(await world.admin.ask(method, asked), 400, 404)
    assert await rows(world.pool) == before


async def test_a_limit_that_is_none_is_refused(
    world: World, names: Names, subtests: pytest.Subtests
) -> None:
    for name in operations(world, parameter="limit"):
        for limit in ("0", "-1", "1001", UINT256, "1e3", "1.5", "NaN", "x", "", "%00", "0x10"):
            with subtests.test(name, limit=limit):
                clear(await world.admin.ask("GET", f"{target(name, names)}&limit={limit}"), 400)


async def test_no_list_takes_a_cursor_that_it_did_not_give_out(
    world: World, names: Names, subtests: pytest.Subtests
) -> None:
    """Not altered by a letter, nor another list's, nor one of before cursors were sealed."""
    lists = list(operations(world, parameter="cursor"))
    assert set(LISTS.values()) <= {PROBES[name][0].target.partition("?")[0] for name in lists}
    given = [value for name, value in names.items() if name.endswith("_cursor")]
    for name in lists:
        at = f"{target(name, names)}&limit=1"
        own = (await world.admin.ask("GET", at)).body["nextCursor"]
        assert own is None or (await world.admin.ask("GET", f"{at}&cursor={own}")).status == 200
        forged = [each for each in given if each != own]
        forged += ["", "x", "=", "a" * 64, "MTc2NjAwMDAwMDAwMDAwMCxkZXBfeA", "1766000000000000,x"]
        forged += map(percent, HOSTILE_TEXTS)
        if own is not None:
            forged += [own[:place] + other + own[place + 1 :] for place, other in altered(own)]
            forged += [own.upper(), own[:-1], own + "a", own + "=", own + own, "%20" + own]
        for cursor in forged:
            with subtests.test(name, cursor=cursor[:100]):
                answer = await world.admin.ask("GET", f"{at}&cursor={cursor}")
                clear(answer, 400)
                assert "cursor" in answer.error


def altered(text: str) -> Iterator[tuple[int, str]]:
    """Every seventh letter, and the last, by another one."""
    for place in {*range(0, len(text), 7), len(text) - 1}:
        yield place, "b" if text[place] == "a" else "a"
