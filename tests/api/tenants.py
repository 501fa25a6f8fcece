"""Accounts that have one of everything, and what each of theirs is called."""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

from bip32 import BIP32

from tests.api.past import endpoint
from tests.api.world import HEIGHT, Caller, World, address, tx_hash

Names: TypeAlias = dict[str, str]

ETHER: Final = 10**18
MINIMUM: Final = {"coin": "eth", "minDepositAmount": "0.5", "maxAutoAmount": "100"}
HOUR_AGO: Final = "select to_char(clock() - interval '1 hour', 'YYYY-MM-DD\"T\"HH24:MI:SSZ')"
BLOCKED: Final = "https://127.0.0.1/hook"  # a test of it is refused before it sends a packet


async def furnish(world: World, account: str, number: int) -> Names:
    """Give an account some of everything; `number` tells its things from another's."""
    who = world.caller(await world.new_key(account, "read", "write"))
    assert (await world.admin.put("/v1/coins", MINIMUM)).status == 200
    names = {"account": account, "order": f"{account}-order", "reference": f"{account}-1"}
    names["address"], names["transaction"] = address(number), tx_hash("ethereum", number)
    await _watch(who, names, number)
    names |= await _wallets(who, account)
    names["endpoint"] = (await endpoint(who, description=account))[0].rpartition("/")[2]
    await endpoint(who, description="another")
    await world.activate("ethereum")
    for more, units in enumerate((ETHER, 1, 1_000 * ETHER)):  # detected, ignored, held
        await world.pay(number + more, address(number), units, height=HEIGHT + number)
    names |= await _deposits(who, number)
    names |= await _sent(world, who, names)
    [key] = (await world.admin.get(f"/v1/accounts/{account}/keys", limit="1")).body["items"]
    names |= {"key": key["id"], "import": await _newest(who, "/v1/addresses/imports")}
    return names | await _cursors(who, names)


async def _watch(who: Caller, names: Names, number: int) -> None:
    body = {
        "network": "ethereum",
        "addresses": [
            {"address": names["address"], "reference": names["reference"]},
            {"address": address(number + 1), "fromBlock": 900},
        ],
    }
    made = await who.post("/v1/addresses", body, headers={"Idempotency-Key": names["order"]})
    assert made.status == 201, made
    for more in (2, 3):
        file = f"{address(number + more)}\n".encode()
        path, kind = "/v1/addresses/import?network=ethereum", {"Content-Type": "text/csv"}
        assert (await who.ask("POST", path, data=file, headers=kind)).status == 201


def extended_key(account: str) -> str:
    root = BIP32.from_seed(hashlib.sha512(account.encode()).digest())
    return str(root.get_xpub_from_path("m/44'/60'/0'"))


async def _wallets(who: Caller, account: str) -> Names:
    names = {"xpub": extended_key(account), "derived": f"{account}-w"}
    for path in ("1/*", "0/*"):
        body = {"network": "ethereum", "xpub": names["xpub"], "path": path}
        made = await who.post("/v1/wallets", body)
        names["wallet"] = made.body["id"]
    path = f"/v1/wallets/{names['wallet']}/addresses"
    assert (await who.post(path, {"reference": names["derived"]})).status == 201
    return names


async def _deposits(who: Caller, number: int) -> Names:
    """The ids of the three."""
    found = {d["transactionHash"]: d["id"] for d in await who.pages("/v1/deposits")}
    kinds = ("deposit", "ignored", "held")
    return {kind: found[tx_hash("ethereum", number + more)] for more, kind in enumerate(kinds)}


async def _sent(world: World, who: Caller, names: Names) -> Names:
    """A delivery that ended after an attempt and one that waits, and two ranges sent again."""
    path = f"/v1/endpoints/{names['endpoint']}"
    await world.pool.execute(
        "update endpoint set url = $2 where account = $1", names["account"], BLOCKED
    )
    await world.pool.execute(
        """
        with ended as (
            select d.id from delivery d
             where endpoint = $1 and deposit = $2 and sequence = 1
        ), tried as (
            insert into attempt (delivery, number, at, charged, status, total_ms, head)
            select id, 1, clock(), true, 204, 1.0, 'HTTP/1.1 204' from ended
        )
        select end_deliveries(array(select id from ended), 'delivered', 'delivered')
        """,
        names["endpoint"],
        names["deposit"],
    )
    since = await world.pool.fetchval(HOUR_AGO)
    for _ in range(2):
        assert (await who.post(f"{path}/resend", {"since": since})).body == {"count": 1}
    return {
        "delivery": await _newest(who, f"{path}/deliveries?state=pending"),
        "done": await _newest(who, f"{path}/deliveries?state=delivered"),
        "resend": await _newest(who, f"{path}/resends"),
        "since": since,
        "position": str((await who.get("/v1/events")).body["items"][-1]["position"]),
    }


async def _newest(who: Caller, path: str) -> str:
    listed = (await who.ask("GET", path)).body["items"]
    return str(listed[0]["id"])


LISTS: Final = {
    "addresses": "/v1/addresses",
    "imports": "/v1/addresses/imports",
    "wallets": "/v1/wallets",
    "deposits": "/v1/deposits",
    "endpoints": "/v1/endpoints",
    "deliveries": "/v1/endpoints/{endpoint}/deliveries",
    "resends": "/v1/endpoints/{endpoint}/resends",
}


async def _cursors(who: Caller, names: Names) -> Names:
    """Of each list, where its second page begins."""
    found = {}
    for name, path in LISTS.items():
        page = (await who.get(path.format(**names), limit="1")).body
        assert page["nextCursor"] is not None, path
        found[f"{name}_cursor"] = page["nextCursor"]
    return found
