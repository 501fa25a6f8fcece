"""Who calls, and what they may: `X-Api-Key`, scopes, and the account a request acts for.

A stored key is its SHA-256 only: the key is 32 random bytes, so that a plain hash can't be guessed
and looking it up leaks nothing. Source of the scopes' meaning: the contract's "HTTP API".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Final, Literal

from aiohttp import web

from indexer.api.context import context_of
from indexer.api.errors import Handler, Problem, missing

Scope = Literal["any", "read", "write", "admin"]

KEY_HEADER: Final = "X-Api-Key"
GUARDED: Final = ("/v1/",)  # every request below these paths needs a key, also one for no route
CONFIGURED_ADMIN: Final = "config"  # the key id of `api.admin_key`


@dataclass(frozen=True, slots=True)
class Principal:
    """The key that a request came with."""

    key_id: str
    account: str | None  # None: an admin's, which belongs to no account
    scopes: frozenset[str]

    @property
    def admin(self) -> bool:
        return "admin" in self.scopes

    def may(self, scope: Scope) -> bool:
        return self.admin or scope == "any" or scope in self.scopes


PRINCIPAL: Final = web.RequestKey("principal", Principal)

_FIND_KEY: Final = "select id, account, scopes::text[] as scopes from api_key where hash = $1"
_ACCOUNT_EXISTS: Final = "select exists (select from account where id = $1)"


def hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse whoever has no valid key before anything else is said, then note who it is."""
    if request.path.startswith(GUARDED):
        request[PRINCIPAL] = await _identify(request)
    return await handler(request)


async def _identify(request: web.Request) -> Principal:
    keys = request.headers.getall(KEY_HEADER, [])
    if len(keys) != 1:
        raise Problem(401, f"this needs one {KEY_HEADER} header")
    context = context_of(request)
    digest = hash_key(keys[0])
    configured = context.settings.api.admin_key
    if configured is not None and hmac.compare_digest(digest, hash_key(configured)):
        return Principal(CONFIGURED_ADMIN, None, frozenset({"admin"}))
    row = await context.pool.fetchrow(_FIND_KEY, digest)
    if row is None:
        raise Problem(401, f"the {KEY_HEADER} is not known here")
    return Principal(row["id"], row["account"], frozenset(row["scopes"]))


def require(
    scope: Scope,
) -> Callable[[Callable[[web.Request], Awaitable[web.Response]]], Handler]:
    """Decorates a handler with the scope that its caller's key must have; `any`: any valid key."""

    def decorate(handler: Callable[[web.Request], Awaitable[web.Response]]) -> Handler:
        @wraps(handler)
        async def checked(request: web.Request) -> web.StreamResponse:
            if not request[PRINCIPAL].may(scope):
                raise Problem(403, f"this needs a key with the scope {scope!r}")
            return await handler(request)

        return checked

    return decorate


async def request_account(request: web.Request) -> str | None:
    """The one account whose rows this request may see; None: an admin's, across all accounts.

    404 for an admin's `?account=` that does not exist, 403 for another's from an account's key.
    """
    principal, named = request[PRINCIPAL], request.query.get("account")
    if principal.account is not None:
        if named not in (None, principal.account):
            raise Problem(403, "this key acts for its own account only")
        return principal.account
    if named is not None and not (
        named.isprintable() and await context_of(request).pool.fetchval(_ACCOUNT_EXISTS, named)
    ):
        raise missing("account", named)
    return named


async def acting_account(request: web.Request) -> str:
    """The same where a route needs one account: an admin must name it."""
    account = await request_account(request)
    if account is None:
        raise Problem(400, "an admin key must name the account it acts for: ?account=ID")
    return account
