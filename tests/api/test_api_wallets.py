"""Watch-only wallets over HTTP: one address a reference, none twice, no private key ever."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final

import pytest
from bip32 import BIP32
from structlog.testing import capture_logs

from tests.api.world import World

ROOT: Final = BIP32.from_seed(
    hashlib.pbkdf2_hmac("sha512", b"abandon " * 11 + b"about", b"mnemonic", 2048)
)
XPUB: Final = ROOT.get_xpub_from_path("m/44'/60'/0'")
FIRST: Final = (
    "0x9858EfFD232B4033E47d90003D41EC34EcaEda94",
    "0x6Fac4D18c912343BF86fa7049364Dd4E424Ab9C0",
)


async def wallet(world: World, **more: Any) -> str:
    made = await world.alice.post("/v1/wallets", {"network": "ethereum", "xpub": XPUB, **more})
    assert made.status == 201, made
    return str(made.body["id"])


async def derive(world: World, wallet_id: str, reference: str) -> Any:
    answer = await world.alice.post(f"/v1/wallets/{wallet_id}/addresses", {"reference": reference})
    assert answer.status == 201, answer
    return answer.body


async def test_each_reference_has_its_own_address_and_keeps_it(world: World) -> None:
    made = await wallet(world, name="hot")
    one, two, again = [await derive(world, made, name) for name in ("u1", "u2", "u1")]
    assert [one["address"], two["address"]] == list(FIRST)
    assert (one["index"], two["index"]) == (0, 1)
    assert again == one
    watched = await world.alice.pages("/v1/addresses", reference="u1")
    assert [(w["address"], w["role"]) for w in watched] == [(FIRST[0], "deposit")]
    [listed] = await world.alice.pages("/v1/wallets")
    assert (listed["name"], listed["path"], listed["addresses"]) == ("hot", "0/*", 2)
    assert XPUB not in str(listed)


async def test_many_at_once_leave_no_gap_and_share_no_address(world: World) -> None:
    made = await wallet(world)
    names = [f"u{number % 20}" for number in range(60)]
    answers = await asyncio.gather(*(derive(world, made, name) for name in names))
    by_name = {(name, a["index"], a["address"]) for name, a in zip(names, answers, strict=True)}
    assert len(by_name) == 20
    assert {index for _, index, _ in by_name} == set(range(20))
    assert len({address for _, _, address in by_name}) == 20


@pytest.mark.pitfall("P118")
async def test_equal_payments_are_told_apart_by_their_addresses(world: World) -> None:
    made = await wallet(world)
    one, two = [await derive(world, made, name) for name in ("order-1", "order-2")]
    await world.activate("ethereum")
    for number, given in enumerate((one, two, one)):
        await world.pay(number, given["address"], 5)
    paid = await world.alice.pages("/v1/deposits")
    assert sorted(deposit["reference"] for deposit in paid) == ["order-1", "order-1", "order-2"]
    assert {(d["reference"], d["toAddress"]) for d in paid} == {
        (given["reference"], given["address"]) for given in (one, two)
    }


async def test_a_wallet_is_its_accounts_own(world: World) -> None:
    made = await wallet(world)
    refused = await world.bob.post(f"/v1/wallets/{made}/addresses", {"reference": "u1"})
    assert refused.status == 404
    assert await world.bob.pages("/v1/wallets") == []
    assert len(await world.admin.pages("/v1/wallets")) == 1
    # What another has registered says nothing to bob, who may register it too.
    body = {"network": "ethereum", "xpub": XPUB}
    assert (await world.bob.post("/v1/wallets", body)).status == 201
    assert (await world.alice.post("/v1/wallets", body)).status == 409
    assert (await world.alice.post("/v1/wallets", {**body, "path": "1/*"})).status == 201


@pytest.mark.parametrize(
    "secret", [ROOT.get_xpriv_from_path("m/44'/60'/0'"), "0x" + "5e" * 32, "5e" * 32]
)
async def test_a_private_key_is_refused_and_never_logged(world: World, secret: str) -> None:
    with capture_logs() as logs:
        answer = await world.alice.post("/v1/wallets", {"network": "ethereum", "xpub": secret})
    assert (answer.status, "private key" in answer.error) == (400, True)
    assert secret not in str(answer) + str(logs)
    for table in ("wallet", "audit", "idempotency"):
        rows = await world.pool.fetch(f"select * from {table}")  # noqa: S608
        assert secret not in str([dict(row) for row in rows])


async def test_the_key_itself_is_stored_encrypted_and_audited_nowhere(world: World) -> None:
    await wallet(world)
    stored = await world.pool.fetchrow("select * from wallet")
    assert XPUB.encode() not in stored["xpub"]
    assert XPUB not in str((await world.admin.get("/v1/audit")).body)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"xpub": "nothing"}, "xpub"),
        ({"xpub": XPUB[:-1] + "x"}, "xpub"),
        ({"path": "0'/*"}, "path"),
        ({"network": "nowhere"}, None),
        ({"xpub": 7}, "xpub"),
        ({"xprv": "x"}, "xprv"),
    ],
)
async def test_a_bad_wallet_is_refused(
    world: World, change: dict[str, Any], field: str | None
) -> None:
    answer = await world.alice.post("/v1/wallets", {"network": "ethereum", "xpub": XPUB, **change})
    assert answer.status == 400
    if field is not None:
        assert answer.body["details"][0]["field"] == field
    assert await world.alice.pages("/v1/wallets") == []
