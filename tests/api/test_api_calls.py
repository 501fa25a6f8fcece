"""What every call has: its transaction, its number, its audit row, its answer kept for a repeat."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any, Final

import pytest

from indexer.chains import Token
from tests.api.world import USDT, World, address

KEY: Final = {"Idempotency-Key": "order-42"}


def body(*numbers: int) -> dict[str, Any]:
    return {"network": "ethereum", "addresses": [address(number) for number in numbers]}


async def test_a_repeated_post_is_answered_again_and_creates_nothing(world: World) -> None:
    first = await world.alice.post("/v1/addresses", body(1, 2), headers=KEY)
    again = await world.alice.post("/v1/addresses", body(1, 2), headers=KEY)
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body == {"created": 2, "existing": 0, "coveredFrom": 1001}
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    # Without the key it is a new request.
    assert (await world.alice.post("/v1/addresses", body(1, 2))).body["existing"] == 2


async def test_a_key_is_kept_per_caller_and_route(world: World) -> None:
    assert (await world.alice.post("/v1/addresses", body(1), headers=KEY)).status == 201
    bobs = await world.bob.post("/v1/addresses", body(1), headers=KEY)
    assert (bobs.status, bobs.body["created"]) == (201, 1)
    for account in ("alice", "bob"):
        route = f"/v1/accounts/{account}/keys"
        made = await world.admin.post(route, {"scopes": ["read"]}, headers=KEY)
        assert (made.status, "key" in made.body) == (201, True)


async def test_another_body_under_the_same_key_is_refused(world: World) -> None:
    assert (await world.alice.post("/v1/addresses", body(1), headers=KEY)).status == 201
    refused = await world.alice.post("/v1/addresses", body(2), headers=KEY)
    assert (refused.status, refused.body["code"]) == (422, "UNPROCESSABLE")
    assert len(await world.alice.pages("/v1/addresses")) == 1


async def test_a_replayed_answer_leaves_secrets_out(world: World) -> None:
    route, wanted = "/v1/accounts/alice/keys", {"scopes": ["read"], "requireSignature": True}
    first = await world.admin.post(route, wanted, headers=KEY)
    again = await world.admin.post(route, wanted, headers=KEY)
    assert set(first.body) == {"id", "key", "secret"}
    assert again.body == {"id": first.body["id"]}
    kept = await world.pool.fetchval("select answer from idempotency")
    assert first.body["key"].encode() not in kept
    assert first.body["secret"].encode() not in kept


async def test_a_refused_request_is_not_kept(world: World) -> None:
    bad = {"network": "ethereum", "addresses": ["0x12"]}
    assert (await world.alice.post("/v1/addresses", bad, headers=KEY)).status == 400
    assert (await world.alice.post("/v1/addresses", body(1), headers=KEY)).status == 201


async def test_a_key_is_forgotten_after_a_day(world: World) -> None:
    await world.alice.post("/v1/addresses", body(1), headers=KEY)
    await world.pool.execute("update idempotency set created_at = created_at - interval '25 hours'")
    again = await world.alice.post("/v1/addresses", body(2), headers=KEY)
    assert (again.status, again.body["created"]) == (201, 1)


async def test_of_many_at_once_one_is_carried_out(world: World) -> None:
    answers = await asyncio.gather(
        *(world.alice.post("/v1/addresses", body(1, 2, 3), headers=KEY) for _ in range(12))
    )
    assert {answer.status for answer in answers} <= {201, 409}
    created = [answer for answer in answers if answer.status == 201]
    assert {answer.body["created"] for answer in created} == {3}
    assert sum("Idempotency-Replayed" not in answer.headers for answer in created) == 1


async def test_while_the_first_still_runs_the_second_is_told_so(world: World) -> None:
    async with world.pool.acquire() as holder, holder.transaction():
        await holder.execute("lock table watched_address in access exclusive mode")
        first = asyncio.create_task(world.alice.post("/v1/addresses", body(1), headers=KEY))
        await asyncio.sleep(0.3)
        second = await world.alice.post("/v1/addresses", body(1), headers=KEY)
    assert (second.status, "still running" in second.error) == (409, True)
    assert (await first).status == 201


@pytest.mark.parametrize("name", ["", "x" * 256, "two words", "naïve"])
async def test_bad_keys_are_refused(world: World, name: str) -> None:
    answer = await world.alice.post("/v1/addresses", body(1), headers={"Idempotency-Key": name})
    assert answer.status == 400
    assert await world.pool.fetchval("select count(*) from watched_address") == 0


async def test_every_change_leaves_an_audit_row_and_a_question_none(world: World) -> None:
    before = await world.pool.fetchval("select count(*) from audit")
    await world.alice.get("/v1/addresses")
    await world.alice.post("/v1/addresses", {"network": "ethereum", "addresses": ["bad"]})
    assert await world.pool.fetchval("select count(*) from audit") == before
    headers = {"X-Request-Id": "req-7"}
    await world.admin.ask(
        "POST", "/v1/addresses?account=alice", body(*range(1, 20)), headers=headers
    )
    await world.alice.delete(f"/v1/addresses/ethereum/{address(1)}")
    newest, older = (await world.admin.get("/v1/audit", limit=2)).body["items"]
    assert (newest["action"], newest["target"]) == (
        "DELETE /v1/addresses/{network}/{address}",
        f"/v1/addresses/ethereum/{address(1)}",
    )
    assert (newest["account"], newest["address"]) == ("alice", "127.0.0.1")
    assert (older["keyId"], older["account"], older["requestId"]) == ("config", "alice", "req-7")
    assert older["details"] == {"network": "ethereum", "addresses": {"entries": 19}}
    assert (await world.alice.get("/v1/audit")).status == 403


async def test_the_audit_log_is_filtered_and_paged(world: World) -> None:
    for number in range(5):
        await world.alice.register("ethereum", address(number + 1))
    await world.bob.register("ethereum", address(1))
    assert len(await world.admin.pages("/v1/audit", limit=2)) == 6
    assert len(await world.admin.pages("/v1/audit", account="alice", limit=2)) == 5
    key_id = (await world.admin.pages("/v1/audit", account="bob"))[0]["keyId"]
    assert len(await world.admin.pages("/v1/audit", keyId=key_id)) == 1
    assert await world.admin.pages("/v1/audit", until="2020-01-01T00:00:00Z") == []


async def test_what_fails_leaves_neither_change_nor_row(world: World) -> None:
    await world.pool.execute(
        """
        create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'no audit today'; end $$;
        create trigger refuse before insert on audit execute function refuse()
        """
    )
    assert (await world.alice.post("/v1/addresses", body(1))).status == 500
    assert await world.pool.fetchval("select count(*) from watched_address") == 0


async def test_an_unchanged_answer_is_not_sent_again(world: World) -> None:
    await world.alice.register("ethereum", address(1))
    first = await world.alice.get("/v1/addresses")
    tag = {"If-None-Match": first.headers["ETag"]}
    same = await world.alice.ask("GET", "/v1/addresses", headers=tag)
    assert (same.status, same.body, same.headers["ETag"]) == (304, None, first.headers["ETag"])
    url = f"{world.alice.base}/v1/addresses"
    async with world.session.head(url, headers=world.alice.headers) as answer:
        assert answer.headers["ETag"] == first.headers["ETag"]
    await world.alice.register("ethereum", address(2))
    assert (await world.alice.ask("GET", "/v1/addresses", headers=tag)).status == 200


async def test_long_answers_are_compressed_for_who_takes_that(world: World) -> None:
    await world.alice.register("ethereum", *(address(n + 1) for n in range(100)))
    url = f"{world.alice.base}/v1/addresses"
    for accepted, encoding in (("gzip", "gzip"), ("identity", None)):
        headers = {**world.alice.headers, "Accept-Encoding": accepted}
        async with world.session.get(url, headers=headers, auto_decompress=False) as answer:
            raw = await answer.read()
            assert answer.headers.get("Content-Encoding") == encoding
            text = gzip.decompress(raw) if encoding else raw
            assert text.count(b"coveredFrom") == 100


async def test_a_request_keeps_its_callers_number_or_gets_one(world: World) -> None:
    given = await world.alice.ask("GET", "/v1/networks", headers={"X-Request-Id": "abc.1-2_3"})
    assert given.headers["X-Request-Id"] == "abc.1-2_3"
    for odd in ("x" * 65, "a b", "<script>"):
        answer = await world.alice.ask("GET", "/v1/networks", headers={"X-Request-Id": odd})
        assert len(answer.headers["X-Request-Id"]) == 16
    refused = await world.nobody.get("/v1/networks")
    assert len(refused.headers["X-Request-Id"]) == 16


async def test_a_number_for_money_is_never_kept_as_a_float(world: World) -> None:
    world.tokens["ethereum", bytes.fromhex(USDT[2:])] = Token("Tether USD", "USDT", 6)
    made = await world.admin.ask(
        "POST",
        "/v1/coins",
        data=b'{"network": "ethereum", "contractAddress": "%s", "minDepositAmount": 0.3}'
        % USDT.encode(),
        headers={"Content-Type": "application/json"},
    )
    assert made.status == 201
    row = (await world.admin.get("/v1/audit", limit=1)).body["items"][0]
    assert row["details"]["minDepositAmount"] == "0.3"
