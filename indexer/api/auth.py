"""Who calls, and what they may: `X-Api-Key`, scopes, and the account a request acts for.

A stored key is its SHA-256 only: the key is 32 random bytes, so that a plain hash can't be guessed
and looking it up leaks nothing. Source of the scopes' meaning: the contract's "HTTP API".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

import asyncpg
from aiohttp import web

from indexer.api import signature
from indexer.api.caller import Address, client_address
from indexer.api.context import context_of
from indexer.api.errors import ANSWER_HEADERS, Handler, Problem, missing
from indexer.api.limits import LIMITS

Scope = Literal["any", "read", "write", "admin"]

KEY_HEADER: Final = "X-Api-Key"
# Every request below these paths needs a key, also one for no route.
GUARDED: Final = ("/v1/", "/api/spot/v1/")
CONFIGURED_ADMIN: Final = "config"  # the key id of `api.admin_key`
NOTE_SECONDS: Final = 60.0  # between two notes of a key's use


@dataclass(frozen=True, slots=True)
class Principal:
    """The key that a request came with."""

    key_id: str
    account: str | None  # None: an admin's, which belongs to no account
    scopes: frozenset[str]
    rate_limit: float | None = None  # requests a second; None: the default

    @property
    def admin(self) -> bool:
        return "admin" in self.scopes

    def may(self, scope: Scope) -> bool:
        return self.admin or scope == "any" or scope in self.scopes


PRINCIPAL: Final = web.RequestKey("principal", Principal)

_FIND_KEY: Final = """
    select id, account, scopes::text[] as scopes, allowed_ips, secret, rate_limit,
           used_at is null or used_at < clock() - make_interval(secs => $2) as unnoted
      from api_key where hash = $1 and (expires_at is null or expires_at > clock())
"""
_VALID: Final = """
    select id from api_key where id = any ($1) and (expires_at is null or expires_at > clock())
"""
_NOTE_USE: Final = "update api_key set used_at = clock(), used_from = $2 where id = $1"
_ACCOUNT_EXISTS: Final = "select exists (select from account where id = $1)"


def hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse whoever has no valid key before anything else is said, then note who it is."""
    if request.path.startswith(GUARDED):
        limits, address = request.app[LIMITS], client_address(request)
        limits.may_guess(address)
        try:
            principal = await _identify(request, address)
        except Problem as problem:
            if problem.status == 401 and KEY_HEADER in request.headers:
                limits.guessed_wrong(address)
            raise
        request[PRINCIPAL] = principal
        quota = limits.use(principal.key_id, principal.rate_limit)
        request[ANSWER_HEADERS] = quota.headers()
    return await handler(request)


async def _identify(request: web.Request, address: Address) -> Principal:
    keys = request.headers.getall(KEY_HEADER, [])
    if len(keys) != 1:
        raise Problem(401, f"this needs one {KEY_HEADER} header")
    context = context_of(request)
    digest = hash_key(keys[0])
    configured = context.settings.api.admin_key
    if configured is not None and hmac.compare_digest(digest, hash_key(configured)):
        return Principal(CONFIGURED_ADMIN, None, frozenset({"admin"}))
    row = await context.pool.fetchrow(_FIND_KEY, digest, NOTE_SECONDS)
    if row is None:
        raise Problem(401, f"the {KEY_HEADER} is not known here")
    if row["allowed_ips"] is not None and not any(address in net for net in row["allowed_ips"]):
        raise Problem(403, "this key is not allowed from this address")
    if row["secret"] is not None:
        secret = context.vault.decrypt(row["secret"], row["id"]).decode()
        await signature.verify(request, context.pool, secret)
    if row["unnoted"]:
        await context.pool.execute(_NOTE_USE, row["id"], address)
    return Principal(row["id"], row["account"], frozenset(row["scopes"]), row["rate_limit"])


async def valid_keys(pool: asyncpg.Pool, key_ids: Collection[str]) -> set[str]:
    """Those of the keys that could still be used now: not deleted, not past their end."""
    rows = await pool.fetch(_VALID, list(key_ids))
    return {row["id"] for row in rows} | {CONFIGURED_ADMIN}


async def request_account(request: web.Request, named: str | None) -> str | None:
    """The one account whose rows this request may see; None: an admin's, across all accounts.

    `named`: its `?account=`. 404 for an admin's that does not exist, 403 for another's than its own
    from an account's key.
    """
    principal = request[PRINCIPAL]
    if principal.account is not None:
        if named not in (None, principal.account):
            raise Problem(403, "this key acts for its own account only")
        return principal.account
    if named is not None and not await context_of(request).pool.fetchval(_ACCOUNT_EXISTS, named):
        raise missing("account", named)
    return named
