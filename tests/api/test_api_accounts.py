"""Accounts, keys and scopes: who may call what."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import pytest

from indexer.api import accounts
from indexer.api.errors import Absent, Conflict
from indexer.model import Refused
from tests import contract
from tests.api.world import ADMIN_KEY, World, address

# Every route below /v1 and the scope it asks for; `test_api_contract`: there is no other.
SCOPES: Final = {
    (method, path): scope
    for scope, method, path in contract.LINES
    if path.startswith(("/v1", "/api"))
}
FILL: Final = {"keyId": "key_x", "coin": "eth", "id": "dep_x", "hash": "0x" + "5e" * 32}


def filled(path: str) -> str:
    return path.format(**FILL, network="ethereum", address=address(1))


async def test_nothing_below_v1_is_told_without_a_key(world: World) -> None:
    strangers = (world.nobody, world.caller("dk_wrong"), world.caller(ADMIN_KEY + "x"))
    for method, path in [*SCOPES, ("GET", "/v1/nothing"), ("PATCH", "/v1/coins")]:
        for stranger in strangers:
            answer = await stranger.ask(method, filled(path))
            assert answer.status == 401, (method, path)
            assert answer.error


async def test_two_keys_at_once_are_none(world: World) -> None:
    answer = await world.nobody.ask(
        "GET", "/v1/coins", headers=[("X-Api-Key", ADMIN_KEY), ("X-Api-Key", "x")]
    )
    assert answer.status == 401


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_a_key_opens_what_its_scopes_say_and_nothing_else(world: World, scope: str) -> None:
    caller = world.caller(await world.new_key("alice", scope))
    for (method, path), needed in SCOPES.items():
        answer = await caller.ask(method, filled(path))
        if needed in ("any", scope):
            assert answer.status not in (401, 403), (method, path, answer)
        else:
            assert answer.status == 403, (method, path, answer)
            assert needed in answer.error


async def test_the_admin_may_do_everything(world: World) -> None:
    for method, path in SCOPES:
        answer = await world.admin.ask(method, filled(path) + "?account=alice")
        assert answer.status not in (401, 403), (method, path, answer)


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(world: World) -> None:
    made = await world.admin.post("/v1/accounts/alice/keys", {"scopes": ["read"]})
    assert made.status == 201
    assert set(made.body) == {"id", "key"}
    key = made.body["key"]
    row = await world.pool.fetchrow("select * from api_key where id = $1", made.body["id"])
    assert row["hash"] == hashlib.sha256(key.encode()).digest()
    assert key.encode() not in repr(dict(row)).encode()
    listed = (await world.admin.get("/v1/accounts/alice/keys")).body["items"]
    assert [item for item in listed if {"key", "hash", "secret"} & set(item)] == []
    assert listed[0]["id"] == made.body["id"]
    assert listed[0]["scopes"] == ["read"]
    other = await world.admin.post("/v1/accounts/alice/keys", {"scopes": ["read"]})
    assert other.body["key"] != key


async def test_a_deleted_key_opens_nothing_from_then_on(world: World) -> None:
    made = (await world.admin.post("/v1/accounts/alice/keys", {"scopes": ["read"]})).body
    caller = world.caller(made["key"])
    assert (await caller.get("/v1/networks")).status == 200
    elsewhere = await world.admin.delete(f"/v1/accounts/bob/keys/{made['id']}")
    assert elsewhere.status == 404
    assert (await caller.get("/v1/networks")).status == 200
    assert (await world.admin.delete(f"/v1/accounts/alice/keys/{made['id']}")).status == 204
    assert (await caller.get("/v1/networks")).status == 401
    assert (await world.admin.delete(f"/v1/accounts/alice/keys/{made['id']}")).status == 404


async def test_accounts_are_made_and_listed_newest_first(world: World) -> None:
    given = await world.admin.post("/v1/accounts", {"name": "Shop №1", "id": "shop-1"})
    assert (given.status, given.body) == (201, {"id": "shop-1", "name": "Shop №1"})
    made = await world.admin.post("/v1/accounts", {"name": "Shop 2"})
    assert made.status == 201
    listed = (await world.admin.get("/v1/accounts")).body["items"]
    assert [item["id"] for item in listed] == [made.body["id"], "shop-1", "bob", "alice"]
    assert listed[1]["name"] == "Shop №1"


BAD_ACCOUNTS: Final[tuple[tuple[Any, int, str], ...]] = (
    ({"name": "Again", "id": "alice"}, 409, "alice"),
    ({"name": "A", "id": "UPPER"}, 400, "UPPER"),
    ({"name": "A", "id": "a" * 64}, 400, "63"),
    ({"name": "A", "id": ""}, 400, "account id"),
    ({"name": ""}, 400, "name"),
    ({"name": "a\u0000b"}, 400, "U+0000"),
    ({"name": "x" * 257}, 400, "name"),
    ({"name": 5}, 400, "name"),
    ({"id": "x"}, 400, "name: is missing"),
    ({"name": "A", "admin": True}, 400, "admin: there is no such field"),
)


async def test_a_bad_account_is_refused_in_a_sentence(
    world: World, subtests: pytest.Subtests
) -> None:
    for body, status, said in BAD_ACCOUNTS:
        with subtests.test(str(body)):
            answer = await world.admin.post("/v1/accounts", body)
            assert answer.status == status
            assert said in answer.error
    assert await world.pool.fetchval("select count(*) from account") == 2


BAD_KEYS: Final[tuple[tuple[str, Any, int, str], ...]] = (
    ("alice", {"scopes": ["admin"]}, 400, "scopes[0]"),
    ("alice", {"scopes": []}, 400, "scopes"),
    ("alice", {"scopes": "read"}, 400, "scopes"),
    ("alice", {}, 400, "scopes: is missing"),
    ("alice", {"scopes": ["read"], "colour": 1}, 400, "colour"),
    ("nobody", {"scopes": ["read"]}, 404, "nobody"),
)


async def test_a_bad_key_is_refused_in_a_sentence(world: World, subtests: pytest.Subtests) -> None:
    for account, body, status, said in BAD_KEYS:
        with subtests.test(str(body)):
            answer = await world.admin.post(f"/v1/accounts/{account}/keys", body)
            assert answer.status == status
            assert said in answer.error
    assert await world.pool.fetchval("select count(*) from api_key") == 2


async def test_keys_of_no_account_are_not_listed(world: World) -> None:
    assert (await world.admin.get("/v1/accounts/nobody/keys")).status == 404


async def test_an_admin_key_of_the_database_works_like_the_configured_one(world: World) -> None:
    async with world.pool.acquire() as connection:
        made = await accounts.create_key(connection, world.context.vault, None, ["admin"])
    assert (await world.caller(made.key).get("/v1/accounts")).status == 200
    row = await world.pool.fetchrow(
        "select account, scopes::text[] as scopes from api_key where id = $1", made.id
    )
    assert (row["account"], row["scopes"]) == (None, ["admin"])


async def test_what_the_commands_call_refuses_by_name(world: World) -> None:
    async with world.pool.acquire() as connection:
        with pytest.raises(Conflict, match="alice"):
            await accounts.create_account(connection, "Alice", "alice")
        with pytest.raises(Absent, match="nobody"):
            await accounts.create_key(connection, world.context.vault, "nobody", ["read"])
        with pytest.raises(Refused, match="name"):
            await accounts.create_account(connection, "", None)


async def test_an_admin_names_the_account_where_one_is_needed(world: World) -> None:
    await world.alice.register("ethereum", address(1))
    needing: list[tuple[str, str, Any]] = [
        ("GET", f"/v1/addresses/ethereum/{address(1)}", None),
        ("DELETE", f"/v1/addresses/ethereum/{address(1)}", None),
        ("GET", "/v1/events", None),
        ("POST", "/v1/addresses", {"network": "ethereum", "addresses": [address(2)]}),
    ]
    for method, path, body in needing:
        answer = await world.admin.ask(method, path, body)
        assert answer.status == 400, (method, path)
        assert "?account=" in answer.error
        assert (await world.admin.ask(method, f"{path}?account=nobody", body)).status == 404
        assert (await world.admin.ask(method, f"{path}?account=a%00b", body)).status in (400, 404)
    found = await world.admin.get(f"/v1/addresses/ethereum/{address(1)}", account="alice")
    assert found.status == 200


async def test_an_accounts_key_can_only_name_its_own_account(world: World) -> None:
    for path in ("/v1/addresses", "/v1/deposits", "/v1/events"):
        assert (await world.alice.get(path, account="alice")).status == 200
        for other in ("bob", "nobody"):
            assert (await world.alice.get(path, account=other)).status == 403
