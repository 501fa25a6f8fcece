"""For every operation of the server: requests that name what is somebody's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.api.tenants import LISTS, Names
from tests.api.world import Answer, Caller


@dataclass(frozen=True)
class Probe:
    """A request that names something of somebody's. `{name}` stands for one of Names.

    `adds`: it is carried out whoever's the names are, and adds rows of the caller's own.
    `owner`: whether its owner gets more of it than others do.
    """

    target: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    adds: bool = False
    owner: bool = True


def page_of(name: str) -> Probe:
    """The list's second page, by its owner's cursor."""
    return Probe(f"{LISTS[name]}?limit=1&cursor={{{name}_cursor}}")


ENDPOINT: Final = "/v1/endpoints/{endpoint}"
WATCH: Final = {"network": "ethereum", "addresses": ["{address}"]}

# What each operation is asked; what takes something away comes last. An operation that is not here
# fails the tests.
PROBES: Final[dict[str, list[Probe]]] = {
    "GET /v1/networks": [Probe("/v1/networks", owner=False)],
    "GET /v1/coins": [Probe("/v1/coins", owner=False)],
    "GET /v1/coins/{coin}": [Probe("/v1/coins/{reference}", owner=False)],
    "GET /v1/totals": [Probe("/v1/totals", owner=False)],
    "GET /v1/accounts": [Probe("/v1/accounts", owner=False)],
    "GET /v1/accounts/{account}/keys": [Probe("/v1/accounts/{account}/keys")],
    "GET /v1/audit": [Probe("/v1/audit?keyId={key}")],
    "GET /v1/addresses": [
        Probe("/v1/addresses?reference={reference}"),
        Probe("/v1/addresses?network=ethereum&reference={derived}"),
        page_of("addresses"),
    ],
    "GET /v1/addresses/{network}/{address}": [Probe("/v1/addresses/ethereum/{address}")],
    "GET /v1/addresses/imports": [page_of("imports")],
    "GET /v1/wallets": [page_of("wallets")],
    "GET /v1/deposits": [
        Probe("/v1/deposits?address={address}"),
        Probe("/v1/deposits?reference={reference}"),
        Probe("/v1/deposits?transactionHash={transaction}"),
        page_of("deposits"),
    ],
    "GET /v1/deposits/{id}": [
        Probe("/v1/deposits/{deposit}"),
        Probe("/v1/deposits/{ignored}"),
    ],
    "GET /v1/deposits/{id}/proof": [Probe("/v1/deposits/{deposit}/proof")],
    "GET /v1/transactions/{network}/{hash}": [Probe("/v1/transactions/ethereum/{transaction}")],
    "GET /v1/events": [Probe("/v1/events?after={position}")],
    "GET /v1/stream": [Probe("/v1/stream?after={position}", owner=False)],
    "POST /api/spot/v1/deposit/page": [
        Probe("/api/spot/v1/deposit/page", {"id": "{deposit}"}),
        Probe("/api/spot/v1/deposit/page", {"transactionHash": "{transaction}"}),
    ],
    "POST /api/spot/v1/deposit/address": [
        Probe("/api/spot/v1/deposit/address", {"coin": "eth", "network": "ethereum"}, owner=False),
    ],
    "GET /v1/endpoints": [page_of("endpoints")],
    "GET /v1/endpoints/{id}": [Probe(ENDPOINT)],
    "GET /v1/endpoints/{id}/deliveries": [
        Probe(f"{ENDPOINT}/deliveries"),
        Probe(f"{ENDPOINT}/deliveries?state=delivered"),
        page_of("deliveries"),
    ],
    "GET /v1/deliveries/{id}": [
        Probe("/v1/deliveries/{delivery}"),
        Probe("/v1/deliveries/{done}"),
    ],
    "GET /v1/endpoints/{id}/resends": [Probe(f"{ENDPOINT}/resends"), page_of("resends")],
    "POST /v1/accounts": [Probe("/v1/accounts", {"name": "X", "id": "{account}"}, owner=False)],
    "POST /v1/accounts/{account}/keys": [
        Probe("/v1/accounts/{account}/keys", {"scopes": ["read"]}),
    ],
    "POST /v1/coins": [
        Probe("/v1/coins", {"network": "ethereum", "contractAddress": "{address}"}, owner=False),
    ],
    "PUT /v1/coins": [Probe("/v1/coins", {"coin": "{reference}"}, owner=False)],
    "PUT /v1/coins/precreate-token": [
        Probe(
            "/v1/coins/precreate-token",
            {"network": "ethereum", "contractAddress": "{address}"},
            owner=False,
        ),
    ],
    "POST /v1/addresses": [
        Probe("/v1/addresses", WATCH, adds=True),
        # Alice's own order comes first: for her it is answered again.
        Probe("/v1/addresses", WATCH, {"Idempotency-Key": "{order}"}, adds=True),
    ],
    "POST /v1/addresses/import": [
        Probe(
            "/v1/addresses/import?network=ethereum",
            {"address": "{address}"},
            {"Content-Type": "application/x-ndjson"},
            adds=True,
        ),
    ],
    "POST /v1/wallets": [
        Probe("/v1/wallets", {"network": "ethereum", "xpub": "{xpub}"}, adds=True),
    ],
    "POST /v1/wallets/{id}/addresses": [
        Probe("/v1/wallets/{wallet}/addresses", {"reference": "{derived}"}),
    ],
    "POST /v1/endpoints": [
        Probe(
            "/v1/endpoints",
            {"url": "https://8.8.8.8/{account}", "description": "{reference}"},
            adds=True,
            owner=False,
        ),
    ],
    "PATCH /v1/endpoints/{id}": [Probe(ENDPOINT, {"description": "mine"})],
    "POST /v1/endpoints/{id}/test": [Probe(f"{ENDPOINT}/test")],
    "POST /v1/endpoints/{id}/pause": [Probe(f"{ENDPOINT}/pause")],
    "POST /v1/endpoints/{id}/resume": [Probe(f"{ENDPOINT}/resume")],
    "POST /v1/endpoints/{id}/rotate-secret": [Probe(f"{ENDPOINT}/rotate-secret")],
    "DELETE /v1/endpoints/{id}/old-secrets": [Probe(f"{ENDPOINT}/old-secrets")],
    "POST /v1/endpoints/{id}/resend": [
        Probe(f"{ENDPOINT}/resend", {"since": "{since}", "dryRun": True}),
        Probe(f"{ENDPOINT}/resend", {"since": "{since}"}),
    ],
    "DELETE /v1/endpoints/{id}/resends/{resend}": [Probe(f"{ENDPOINT}/resends/{{resend}}")],
    "POST /v1/deliveries/{id}/resend": [
        Probe("/v1/deliveries/{delivery}/resend"),
        Probe("/v1/deliveries/{done}/resend"),
    ],
    "POST /v1/deposits/{id}/release": [Probe("/v1/deposits/{ignored}/release")],
    "POST /v1/deposits/{id}/reject": [Probe("/v1/deposits/{held}/reject", {"note": "no"})],
    "DELETE /v1/endpoints/{id}": [Probe(ENDPOINT)],
    "DELETE /v1/addresses/{network}/{address}": [Probe("/v1/addresses/ethereum/{address}")],
    "DELETE /v1/accounts/{account}/keys/{key}": [Probe("/v1/accounts/{account}/keys/{key}")],
}
KEYLESS: Final = {"GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /docs"}
ALL: Final = [(name, probe) for name, probes in PROBES.items() for probe in probes]


def filled(value: Any, names: Names) -> Any:
    if isinstance(value, str):
        return value.format(**names)
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    if isinstance(value, Mapping):
        return {name: filled(each, names) for name, each in value.items()}
    return value


async def ask(caller: Caller, method: str, probe: Probe, names: Names, more: str = "") -> Answer:
    """`more`: of the query string."""
    target = filled(probe.target, names)
    target += ("&" if "?" in target else "?") + more if more else ""
    body, headers = filled(probe.body, names), filled(probe.headers, names)
    return await caller.ask(method, target, body, headers=headers)
