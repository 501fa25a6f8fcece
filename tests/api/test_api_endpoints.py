"""`/v1/endpoints`: made with a secret shown once, listed, changed, deleted; bad input named."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Any, Final

import orjson
import pytest

from callbacks.api.checks import MASK
from callbacks.signing import decode_secret
from tests.api.world import World, address

URL: Final = "https://8.8.8.8/hook?key=1"  # a literal: nothing is looked up
GIVEN: Final[dict[str, Any]] = {
    "url": URL,
    "events": ["deposit.*", "deposit.finalized"],
    "networks": ["ethereum", "bsc"],
    "coins": ["eth"],
    "minAmount": "0.5",
    "rateLimit": 2.5,
    "concurrency": 3,
    "heartbeatSeconds": 300,
    "description": "Kasse 1",
}
DEFAULTS: Final[dict[str, Any]] = {
    "events": None,
    "networks": None,
    "coins": None,
    "minAmount": None,
    "headers": {},
    "rateLimit": 50,
    "concurrency": 8,
    "heartbeatSeconds": None,
    "description": None,
}


async def test_an_endpoint_shows_its_secret_once(world: World) -> None:
    made = await world.alice.post("/v1/endpoints", {"url": URL})
    assert made.status == 201
    secret, name = made.body.pop("secret"), made.body["id"]
    assert made.body.items() >= (DEFAULTS | {"account": "alice", "url": URL}).items()
    assert (made.body["state"], made.body["stateReason"], made.body["health"]) == (
        "active",
        None,
        None,
    )
    assert [each["expiresAt"] for each in made.body["secrets"]] == [None]
    sealed = await world.pool.fetchval(
        "select secret from endpoint_secret where endpoint = $1", name
    )
    assert world.context.vault.decrypt(sealed, name) == decode_secret(secret)
    shown = await world.alice.get(f"/v1/endpoints/{name}")
    listed = await world.alice.get("/v1/endpoints")
    assert shown.body == made.body
    assert listed.body == {"items": [made.body], "nextCursor": None}


async def test_what_is_given_is_kept_and_can_be_changed(world: World) -> None:
    made = await world.alice.post("/v1/endpoints", GIVEN)
    assert made.body.items() >= GIVEN.items()
    path = f"/v1/endpoints/{made.body['id']}"
    change = {"url": "https://1.1.1.1/", "minAmount": 12, "concurrency": 4, "coins": None}
    changed = await world.alice.ask("PATCH", path, change)
    assert changed.status == 200
    expected = GIVEN | change | {"minAmount": "12"}
    assert changed.body.items() >= expected.items()
    assert (await world.alice.get(path)).body == changed.body
    reset = await world.alice.ask("PATCH", path, dict.fromkeys(DEFAULTS))
    assert reset.body.items() >= DEFAULTS.items()
    assert (await world.alice.ask("PATCH", path)).body == reset.body


async def test_a_header_is_encrypted_and_its_value_never_shown(world: World) -> None:
    given = {"url": URL, "headers": {"Authorization": "Basic c2VjcmV0", "X-Shop": "7"}}
    made = await world.alice.post("/v1/endpoints", given)
    name = made.body["id"]
    assert made.body["headers"] == {"Authorization": MASK, "X-Shop": MASK}
    sealed = await world.pool.fetchval("select headers from endpoint")
    assert b"c2VjcmV0" not in sealed
    assert orjson.loads(world.context.vault.decrypt(sealed, name)) == given["headers"]
    kept = await world.alice.ask("PATCH", f"/v1/endpoints/{name}", {"concurrency": 1})
    assert kept.body["headers"] == made.body["headers"]
    assert await world.pool.fetchval("select headers from endpoint") == sealed
    refused = await world.alice.ask(
        "PATCH", f"/v1/endpoints/{name}", {"headers": kept.body["headers"]}
    )
    assert refused.status == 400
    assert "stands for a value" in refused.error
    audited = await world.pool.fetch("select details::text from audit")
    assert "c2VjcmV0" not in str([tuple(row) for row in audited])


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"url": None}, "url", "null"),
        ({"url": "https://127.0.0.1/"}, "url", "may not go"),
        ({"url": "http://8.8.8.8/"}, "url", "https://"),
        ({"url": "https://8.8.8.8:22/"}, "url", "ports"),
        ({"url": "https://a:b@8.8.8.8/"}, "url", "user name"),
        ({"url": "https://8.8.8.8/" + "a" * 3000}, "url", "2048"),
        ({"events": []}, "events", "at least 1"),
        ({"events": ["deposit.seen"]}, "events", "matches none of deposit.detected"),
        ({"events": ["endpoint.failing"]}, "events", "matches none of deposit.detected"),
        ({"events": ["deposit.%"]}, "events", "pattern"),
        ({"networks": ["nowhere"]}, "networks", "no such network"),
        ({"coins": ["nothing"]}, "coins", "no such coin"),
        ({"minAmount": "-1"}, "minAmount", "is not an amount"),
        ({"minAmount": "1e3"}, "minAmount", "is not an amount"),
        ({"minAmount": "1." + "0" * 78}, "minAmount", "is not an amount"),
        ({"headers": {"Host": "x"}}, "headers", "not an endpoint's to set"),
        ({"headers": {f"X-{n}": "x" for n in range(11)}}, "headers", "at most 10"),
        ({"headers": {"X-A": 1}}, "headers.X-A", "valid string"),
        ({"rateLimit": 0.05}, "rateLimit", "greater than"),
        ({"rateLimit": 1001}, "rateLimit", "less than"),
        ({"rateLimit": "5"}, "rateLimit", "valid number"),
        ({"concurrency": 0}, "concurrency", "greater than"),
        ({"concurrency": 65}, "concurrency", "less than"),
        ({"heartbeatSeconds": 59}, "heartbeatSeconds", "greater than"),
        ({"description": "a\nb"}, "description", "not text"),
        ({"secret": "whsec_"}, "secret", "no such field"),
        ({"state": "paused"}, "state", "no such field"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_written(
    world: World, method: str, change: dict[str, Any], field: str, sentence: str
) -> None:
    path, body = "/v1/endpoints", {"url": URL} | change
    before = 0
    if method == "PATCH":
        path += "/" + (await world.alice.post("/v1/endpoints", {"url": URL})).body["id"]
        body, before = change, 1
    shown = (await world.alice.get("/v1/endpoints")).body
    refused = await world.alice.ask(method, path, body)
    assert refused.status == 400
    assert sentence.replace("null", "must be" if method == "POST" else "null") in refused.error
    assert any(each["field"].startswith(field) for each in refused.body["details"])
    assert (await world.alice.get("/v1/endpoints")).body == shown
    assert await world.pool.fetchval("select count(*) from endpoint_secret") == before


async def test_every_bad_field_is_named_at_once(world: World) -> None:
    refused = await world.alice.post(
        "/v1/endpoints",
        {
            "url": "ftp://x/",
            "events": ["no.such"],
            "networks": ["x", "y"],
            "coins": ["z"],
            "minAmount": "x",
            "headers": {"host": "x"},
        },
    )
    fields = [each["field"] for each in refused.body["details"]]
    expected = ["coins", "events", "headers", "minAmount", "networks", "networks", "url"]
    assert sorted(fields) == expected


BREAKS: Final = ["\r\n", "\n", "\r", "\u2028", "\x00", "\x0b", "\x85"]


@pytest.mark.case(22)
@pytest.mark.parametrize("line", BREAKS, ids=[repr(each) for each in BREAKS])
async def test_a_line_break_gets_into_no_request(world: World, line: str) -> None:
    injected = f"x{line}X-Injected: yes"
    for bad in (
        {"url": f"https://8.8.8.8/{injected}"},
        {"url": f"https://8.8.8.8{line}.example/"},
        {"url": URL, "headers": {"X-Shop": injected}},
        {"url": URL, "headers": {injected: "x"}},
        {"url": URL, "headers": {"X-Shop": f"x{line}"}},
        {"url": URL, "description": injected},
    ):
        refused = await world.alice.post("/v1/endpoints", bad)
        assert refused.status == 400, bad
        assert line not in refused.error
    reference = {"network": "ethereum", "addresses": [{"address": address(1), "reference": line}]}
    assert (await world.alice.post("/v1/addresses", reference)).status == 400
    assert await world.pool.fetchval("select count(*) from endpoint") == 0


@pytest.mark.case(24)
@pytest.mark.parametrize("answer", ["10.0.0.1", "169.254.169.254"])
async def test_a_name_for_a_forbidden_address_is_refused_in_the_same_words(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    real = socket.getaddrinfo

    def lie(host: str, port: int, *given: Any, **more: Any) -> Any:
        if host.endswith(".example"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]
        return real(host, port, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    by_name = await world.alice.post("/v1/endpoints", {"url": "https://internal.example/"})
    by_literal = await world.alice.post("/v1/endpoints", {"url": f"https://{answer}/"})
    assert by_name.status == by_literal.status == 400
    assert by_name.body == by_literal.body


async def test_a_name_that_does_not_resolve_yet_is_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def unknown(host: str, port: int, *given: Any, **more: Any) -> Any:
        if host.endswith(".example"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, port, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    made = await world.alice.post("/v1/endpoints", {"url": "https://soon.example/"})
    assert made.status == 201


async def test_an_account_sees_and_deletes_its_own_only(world: World) -> None:
    alice, bob, admin = world.alice, world.bob, world.admin
    name = (await alice.post("/v1/endpoints", {"url": URL})).body["id"]
    assert (await bob.get("/v1/endpoints")).body["items"] == []
    for method in ("GET", "PATCH", "DELETE"):
        refused = await bob.ask(method, f"/v1/endpoints/{name}")
        assert refused.status == 404
        assert refused.error == f"there is no endpoint {name!r}"
    listed = (await admin.get("/v1/endpoints")).body["items"]
    assert [each["account"] for each in listed] == ["alice"]
    assert (await admin.get("/v1/endpoints", account="bob")).body["items"] == []
    assert (await alice.delete(f"/v1/endpoints/{name}")).status == 204
    assert (await alice.delete(f"/v1/endpoints/{name}")).status == 404
    assert await world.pool.fetchval("select count(*) from endpoint_secret") == 0


async def test_an_admin_makes_endpoints_for_accounts_and_one_of_the_operators_own(
    world: World,
) -> None:
    made = await world.admin.post("/v1/endpoints?account=bob", {"url": URL})
    assert (made.status, made.body["account"]) == (201, "bob")
    own = await world.admin.post("/v1/endpoints", {"url": URL, "events": ["endpoint.*"]})
    assert (own.status, own.body["account"]) == (201, None)
    path = f"/v1/endpoints/{own.body['id']}"
    assert (await world.bob.get(path)).status == 404
    assert len((await world.bob.get("/v1/endpoints")).body["items"]) == 1
    changed = await world.admin.ask("PATCH", path, {"events": ["endpoint.failing"]})
    assert changed.body["events"] == ["endpoint.failing"]
    for bad, field in (
        ({"events": ["deposit.*"]}, "events"),
        ({"networks": ["ethereum"]}, "networks"),
        ({"coins": ["eth"]}, "coins"),
        ({"minAmount": "1"}, "minAmount"),
    ):
        refused = await world.admin.ask("PATCH", path, bad)
        assert [each["field"] for each in refused.body["details"]] == [field]
    assert (await world.admin.delete(path)).status == 204


async def test_an_owner_is_shown_where_callbacks_come_from(world: World) -> None:
    sources = (ip_network("203.0.113.7"), ip_network("2001:db8::/64"))
    async with world.with_callbacks(source_addresses=sources) as alice:
        made = await alice.post("/v1/endpoints", {"url": URL})
    assert made.body["sourceAddresses"] == ["203.0.113.7", "2001:db8::/64"]


async def test_an_endpoint_that_fails_shows_how_it_fares(world: World) -> None:
    name = (await world.alice.post("/v1/endpoints", {"url": URL})).body["id"]
    await world.pool.execute(
        """
        insert into endpoint_health (endpoint, failures, failing_since, open_until, paused_until)
        values ($1, 7, '2026-01-02', '2100-01-01', '2026-01-03')
        """,
        name,
    )
    assert (await world.alice.get(f"/v1/endpoints/{name}")).body["health"] == {
        "failures": 7,
        "failingSince": "2026-01-02T00:00:00.000000Z",
        "openUntil": "2100-01-01T00:00:00.000000Z",
        "pausedUntil": "2026-01-03T00:00:00.000000Z",
    }
    await world.pool.execute("update endpoint_health set open_until = '2026-01-02'")
    health = (await world.alice.get("/v1/endpoints")).body["items"][0]["health"]
    assert health["openUntil"] is None


async def test_the_list_goes_on_over_pages(world: World) -> None:
    made = [(await world.alice.post("/v1/endpoints", {"url": URL})).body["id"] for _ in range(7)]
    listed = await world.alice.pages("/v1/endpoints", limit=3)
    assert [each["id"] for each in listed] == made[::-1]


async def test_an_account_has_so_many_endpoints_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.api.endpoints.MAX_ENDPOINTS", 2)
    answers = [await world.alice.post("/v1/endpoints", {"url": URL}) for _ in range(3)]
    assert [each.status for each in answers] == [201, 201, 409]
    assert (await world.bob.post("/v1/endpoints", {"url": URL})).status == 201


async def test_an_idempotent_creation_makes_one_endpoint(world: World) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await world.alice.post("/v1/endpoints", {"url": URL}, headers=headers)
    again = await world.alice.post("/v1/endpoints", {"url": URL}, headers=headers)
    assert "secret" in first.body
    assert again.body == {name: value for name, value in first.body.items() if name != "secret"}
    assert len((await world.alice.get("/v1/endpoints")).body["items"]) == 1
