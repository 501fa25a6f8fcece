"""What users were promised of the HTTP API, as data: tests hold the server and its document to it.

`…` stands for what the promise leaves open.
"""

from __future__ import annotations

import re
from typing import Final

# Route by route, and the scope that its key needs.
ROUTES: Final = """
    admin  POST   /v1/accounts
    admin  GET    /v1/accounts
    admin  POST   /v1/accounts/{id}/keys
    admin  GET    /v1/accounts/{id}/keys
    admin  DELETE /v1/accounts/{id}/keys/{keyId}
    read   GET    /v1/networks
    any    GET    /v1/coins
    any    GET    /v1/coins/{coin}
    admin  POST   /v1/coins
    admin  PUT    /v1/coins
    admin  PUT    /v1/coins/precreate-token
    write  POST   /v1/addresses
    write  POST   /v1/addresses/import
    read   GET    /v1/addresses
    read   GET    /v1/addresses/{network}/{address}
    write  DELETE /v1/addresses/{network}/{address}
    write  POST   /v1/wallets
    write  POST   /v1/wallets/{id}/addresses
    write  POST   /v1/endpoints
    write  GET    /v1/endpoints
    write  GET    /v1/endpoints/{id}
    write  PATCH  /v1/endpoints/{id}
    write  DELETE /v1/endpoints/{id}
    write  POST   /v1/endpoints/{id}/test
    write  POST   /v1/endpoints/{id}/pause
    write  POST   /v1/endpoints/{id}/resume
    write  POST   /v1/endpoints/{id}/rotate-secret
    write  POST   /v1/endpoints/{id}/resend
    read   GET    /v1/endpoints/{id}/deliveries
    read   GET    /v1/deliveries/{id}
    write  POST   /v1/deliveries/{id}/resend
    read   GET    /v1/deposits
    read   GET    /v1/deposits/{id}
    read   GET    /v1/deposits/{id}/proof
    admin  POST   /v1/deposits/{id}/release
    admin  POST   /v1/deposits/{id}/reject
    read   GET    /v1/totals
    read   GET    /v1/events
    read   GET    /v1/stream
    read   GET    /v1/transactions/{network}/{hash}
    admin  GET    /v1/audit
    read   POST   /api/spot/v1/deposit/page
    read   POST   /api/spot/v1/deposit/address
    none   GET    /healthz
    none   GET    /readyz
    none   GET    /metrics
    none   GET    /openapi.json
    none   GET    /docs
"""
# What was added to it.
OURS: Final = """
    read   GET    /v1/addresses/imports
    read   GET    /v1/wallets
    write  DELETE /v1/endpoints/{id}/old-secrets
    read   GET    /v1/endpoints/{id}/resends
    write  DELETE /v1/endpoints/{id}/resends/{id}
"""

# The fields of an answer, in their order; of an array's or a list's, those of an item.
ANSWERS: Final = {
    "POST /v1/accounts": "id name",
    "POST /v1/accounts/{id}/keys": "id key secret",
    "GET /v1/networks": "network family head cursor lag finalized state reason",
    "POST /v1/addresses": "created existing coveredFrom",
    "GET /v1/addresses": (
        "network address reference role state coveredFrom activeFrom scannedTo createdAt"
    ),
    "GET /v1/addresses/{network}/{address}": (
        "network address reference role state coveredFrom activeFrom scannedTo createdAt"
    ),
    "POST /v1/wallets": "id",
    "POST /v1/endpoints": "id … state … secret",
    "GET /v1/endpoints": "id … state …",
    "POST /v1/endpoints/{id}/rotate-secret": "secret",
    "POST /v1/endpoints/{id}/resend": "count",
    "GET /v1/deliveries/{id}": "id … state … attempts",
    "GET /v1/events": "position id type timestamp data",
    "GET /v1/stream": "position id type timestamp data",
    "GET /v1/coins": (
        "coin name symbol type decimals contractAddress status coveredFrom activeFrom settings"
        " network"
    ),
    "GET /v1/coins/{coin}": (
        "coin name symbol type decimals contractAddress status coveredFrom activeFrom settings"
        " network"
    ),
    "POST /v1/coins": "message coin …",
    "PUT /v1/coins": "message",
    "PUT /v1/coins/precreate-token": "coin symbol name decimals",
    "POST /api/spot/v1/deposit/page": (
        "id transactionHash coin network type fromAddress toAddress amount status ctime"
    ),
    "POST /api/spot/v1/deposit/address": "coin network address memo",
}
DATA: Final = (  # of a callback
    "id sequence account network coin symbol contractAddress decimals transactionHash ordinal"
    " fromAddress toAddress reference memo amount amountUnits blockHeight blockHash blockTime"
    " confirmations requiredConfirmations status previousStatus reason"
)
ANSWERS["GET /v1/deposits"] = f"{DATA} createdAt updatedAt"
ANSWERS["GET /v1/deposits/{id}"] = f"{DATA} createdAt updatedAt events deliveries"
SETTINGS: Final = "minDepositAmount confirmations confirmationTiers maxAutoAmount balanceCheck …"
ENVELOPE: Final = "code msg data success"

# The fields of a body, `?` behind what may be left out.
BODIES: Final = {
    "POST /v1/accounts": "name id?",
    "POST /v1/accounts/{id}/keys": "scopes allowedIps? requireSignature? rateLimit? expiresAt?",
    "POST /v1/addresses": "network addresses callbacks?",
    "POST /v1/wallets": "network xpub name? path?",
    "POST /v1/wallets/{id}/addresses": "reference",
    "POST /v1/endpoints": (
        "url events? networks? coins? minAmount? headers? rateLimit? concurrency?"
        " heartbeatSeconds? description?"
    ),
    "POST /v1/endpoints/{id}/resend": "since until? states? dryRun?",
    "POST /v1/deposits/{id}/reject": "note",
    "POST /v1/coins": (
        "network contractAddress coin? name? symbol? decimals? fromBlock? settings?"
        " minDepositAmount? confirmations? confirmationTiers? maxAutoAmount? balanceCheck? …"
    ),
    "PUT /v1/coins": (
        "coin status? settings? minDepositAmount? confirmations? confirmationTiers?"
        " maxAutoAmount? balanceCheck? …"
    ),
    "PUT /v1/coins/precreate-token": "contractAddress network",
    "POST /api/spot/v1/deposit/page": (
        "id? coin? type? transactionHash? startTime? endTime? limit?"
    ),
    "POST /api/spot/v1/deposit/address": "coin network",
}
ADDRESS: Final = "address reference? fromBlock? role?"
QUERIES: Final = {
    "GET /v1/addresses": "network reference limit cursor",
    "GET /v1/endpoints/{id}/deliveries": "state limit cursor",
    "GET /v1/deposits": (
        "network coin address reference transactionHash status since until limit cursor"
    ),
    "GET /v1/events": "after limit",
    "GET /v1/stream": "after",
    "GET /v1/accounts": "limit cursor",
    "GET /v1/endpoints": "limit cursor",
    "GET /v1/audit": "limit cursor …",
}

# The words that a field may hold.
WORDS: Final = {
    "GET /v1/networks state": ("starting catching_up following forked halted unreachable refused"),
    "GET /v1/addresses role": "deposit own",
    "GET /v1/addresses state": "pending active",
    "GET /v1/coins type": "NATIVE TOKEN",
    "GET /v1/coins status": "ACTIVE INACTIVE",
    "GET /v1/endpoints state": "active paused disabled",
    "GET /v1/deliveries/{id} state": "pending delivered exhausted cancelled",
    "GET /v1/deposits status": "detected confirmed finalized ignored held orphaned rejected",
    "GET /v1/deposits reason": (
        "below_minimum internal coin_inactive unknown_shape balance_mismatch balance_unknown"
        " above_cap mixed_inputs"
    ),
    "POST /api/spot/v1/deposit/page status": "pending success cancelled fail",
    "POST /api/spot/v1/deposit/page type": "deposit",
}
REFUSALS: Final = {400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 429, 503}


def nameless(path: str) -> str:
    """A route whose variables have no names: those are ours."""
    return re.sub(r"{\w+}", "{}", path)


LINES: Final = [line.split() for line in (ROUTES + OURS).split("\n") if line]
SCOPES: Final = {nameless(f"{method} {path}"): scope for scope, method, path in LINES}
