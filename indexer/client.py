"""A client of the HTTP API, for scripts: typed, and safe to call again.

    async with Client("http://127.0.0.1:8080", "dk_…") as api:
        await api.watch("ethereum", ["0x…", {"address": "0x…", "reference": "user-42"}])
        async for event in api.events(after=0):
            …

A request that finds nobody, or is asked to wait (429, 503), is repeated; what creates something
carries an Idempotency-Key, so that a repeat creates nothing twice. Amounts are decimal text.
"""

from __future__ import annotations

import asyncio
import copy
import json
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import aiohttp
from yarl import URL

from indexer.api.auth import KEY_HEADER
from indexer.api.idempotency import HEADER as IDEMPOTENCY_HEADER
from indexer.api.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign

if TYPE_CHECKING:
    from indexer.api.accounts import CreatedKey
    from indexer.api.addresses import Registered, WatchedAddress
    from indexer.api.coins import CoinCreated, CoinView
    from indexer.api.deposits import Deposit, DepositHistory
    from indexer.api.imports import Imported
    from indexer.api.proofs import DepositProof
    from indexer.api.shapes import Event
    from indexer.api.totals import Total
    from indexer.api.wallets import CreatedWallet, WalletAddress
    from indexer.explain import Explanation
    from indexer.status import Standing

TIMEOUT_SECONDS: Final = 30.0  # of a request; an import may take as long as it takes
ATTEMPTS: Final = 4  # of a request that finds nobody or is asked to wait
FIRST_WAIT_SECONDS: Final = 0.5  # doubled with each attempt
PAGE: Final = 1000  # items a list call may return
WAITING: Final = (429, 503)


class ApiError(Exception):
    """A refusal of the API: its status, machine word, sentence, and what it is about."""

    def __init__(self, status: int, said: Any, headers: Mapping[str, str]) -> None:
        body = said if isinstance(said, dict) else {}
        self.status = status
        self.message = str(body.get("error") or body.get("msg") or f"HTTP {status}")
        self.code = str(body.get("code", ""))
        self.details = body.get("details", [])
        self.request_id = headers.get("X-Request-Id")
        wait = headers.get("Retry-After", "")
        self.retry_after = float(wait) if wait.isdigit() else None  # seconds
        super().__init__(f"{status} {self.code}: {self.message}")


class Client:
    """The API at `url` with one key. Enter it once, in the event loop that uses it."""

    def __init__(
        self, url: str, key: str, *, secret: str | None = None, account: str | None = None
    ) -> None:
        """`secret`: of a key whose requests must be signed. `account`: whom an admin acts for."""
        self._url = URL(url)
        self._key = key
        self._secret = secret
        self._account = account
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    def with_key(self, key: str) -> Client:
        """The same API over the same connections with another key."""
        other = copy.copy(self)
        other._key, other._secret, other._account = key, None, None
        return other

    # ------------------------------------------------------------------ who is who

    async def create_account(self, name: str, **more: str) -> str:
        """Its id; more: id."""
        made = await self.request("POST", "/v1/accounts", {"name": name, **more})
        return cast(str, made["id"])

    async def create_key(self, account: str, scopes: Sequence[str], **more: Any) -> CreatedKey:
        """A key, shown this once; more: allowedIps, requireSignature, rateLimit, expiresAt."""
        body = {"scopes": list(scopes), **more}
        path = f"/v1/accounts/{account}/keys"
        return cast("CreatedKey", await self.request("POST", path, body))

    async def create_endpoint(self, url: str, **more: Any) -> dict[str, Any]:
        """An endpoint with its secret, shown this once; more: its filters and limits."""
        made = await self.request("POST", "/v1/endpoints", {"url": url, **more})
        return cast("dict[str, Any]", made)

    # ------------------------------------------------------------------ what is watched

    async def networks(self) -> list[Standing]:
        return cast("list[Standing]", (await self.request("GET", "/v1/networks"))["items"])

    async def watch(
        self,
        network: str,
        addresses: Sequence[str | Mapping[str, Any]],
        *,
        callbacks: bool = True,
    ) -> Registered:
        """Register addresses: texts, or objects with address, reference?, fromBlock?, role?."""
        body = {"network": network, "addresses": list(addresses), "callbacks": callbacks}
        return cast("Registered", await self.request("POST", "/v1/addresses", body))

    async def import_addresses(
        self,
        network: str,
        lines: bytes | AsyncIterable[bytes],
        *,
        kind: str = "text/csv",
        callbacks: bool = True,
    ) -> Imported:
        """Register addresses from a file of CSV or (`application/x-ndjson`) JSON lines."""
        url = self._target("/v1/addresses/import", network=network, callbacks=callbacks)
        if self._secret is not None and not isinstance(lines, bytes):
            lines = b"".join([part async for part in lines])  # the signature is of all of it
        signed = lines if isinstance(lines, bytes) else b""
        headers = {**self._headers("POST", url, signed), "Content-Type": kind}
        limit = aiohttp.ClientTimeout(total=None)
        async with self._session.post(url, data=lines, headers=headers, timeout=limit) as answer:
            return cast("Imported", await _read(answer))

    def addresses(self, **filters: Any) -> AsyncIterator[WatchedAddress]:
        """Watched addresses, newest first; filters: network, reference."""
        return self._pages("/v1/addresses", filters)

    async def address(self, network: str, address: str) -> WatchedAddress:
        return cast("WatchedAddress", await self.request("GET", _address(network, address)))

    async def unwatch(self, network: str, address: str) -> None:
        await self.request("DELETE", _address(network, address))

    async def create_wallet(self, network: str, xpub: str, **more: str) -> CreatedWallet:
        """Register a watch-only wallet; more: name, path."""
        body = {"network": network, "xpub": xpub, **more}
        return cast("CreatedWallet", await self.request("POST", "/v1/wallets", body))

    async def derive(self, wallet: str, reference: str) -> WalletAddress:
        """The address of a reference: the wallet's next unused one, the same ever after."""
        path = f"/v1/wallets/{wallet}/addresses"
        return cast("WalletAddress", await self.request("POST", path, {"reference": reference}))

    async def coins(self) -> list[CoinView]:
        return cast("list[CoinView]", await self.request("GET", "/v1/coins"))

    async def create_coin(self, network: str, contract: str, **more: Any) -> CoinCreated:
        """Register a token; more: coin, name, symbol, decimals, fromBlock, settings."""
        body = {"network": network, "contractAddress": contract, **more}
        return cast("CoinCreated", await self.request("POST", "/v1/coins", body))

    async def change_coin(self, coin: str, **changes: Any) -> None:
        """Change settings or `status`."""
        await self.request("PUT", "/v1/coins", {"coin": coin, **changes})

    # ------------------------------------------------------------------ what came of it

    def deposits(self, **filters: Any) -> AsyncIterator[Deposit]:
        """Deposits, newest first; filters as the API's: network, coin, address, status, …"""
        return self._pages("/v1/deposits", filters)

    async def deposit(self, deposit: str) -> DepositHistory:
        return cast("DepositHistory", await self.request("GET", f"/v1/deposits/{deposit}"))

    async def proof(self, deposit: str) -> DepositProof:
        """Evidence that anybody can check; the README says how."""
        return cast("DepositProof", await self.request("GET", f"/v1/deposits/{deposit}/proof"))

    async def explain(self, network: str, transaction: str) -> Explanation:
        """What became of a transaction, step by step."""
        path = f"/v1/transactions/{network}/{transaction}"
        return cast("Explanation", await self.request("GET", path))

    async def release(self, deposit: str, note: str | None = None) -> Deposit:
        body = {} if note is None else {"note": note}
        path = f"/v1/deposits/{deposit}/release"
        return cast("Deposit", await self.request("POST", path, body))

    async def reject(self, deposit: str, note: str) -> Deposit:
        path = f"/v1/deposits/{deposit}/reject"
        return cast("Deposit", await self.request("POST", path, {"note": note}))

    async def totals(self) -> list[Total]:
        return cast("list[Total]", (await self.request("GET", "/v1/totals"))["items"])

    async def events(self, after: int) -> AsyncIterator[Event]:
        """The account's feed behind a position, to its end as it is now."""
        position: int | None = after
        while position is not None:
            page = await self.request("GET", "/v1/events", after=position, limit=PAGE)
            for event in page["items"]:
                yield event
            position = None if page["nextCursor"] is None else int(page["nextCursor"])

    async def stream(self, after: int) -> AsyncIterator[Event]:
        """The same, live, for as long as the connection holds: go on after the last position."""
        url = self._target("/v1/stream", after=after)
        headers = self._headers("GET", url, b"")
        async with self._session.ws_connect(url, headers=headers) as socket:
            async for message in socket:
                yield json.loads(message.data)

    # ------------------------------------------------------------------ any route

    async def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer's JSON, None where it has none. ApiError if the API refuses."""
        url = self._target(path, **query)
        data = b"" if body is None else json.dumps(body).encode()
        once = {IDEMPOTENCY_HEADER: secrets.token_urlsafe(16)} if method == "POST" else {}
        for attempt in range(1, ATTEMPTS + 1):
            wait = FIRST_WAIT_SECONDS * 2 ** (attempt - 1)
            headers = {**self._headers(method, url, data), **once}
            try:
                async with self._session.request(
                    method, url, data=data or None, headers=headers
                ) as answer:
                    return await _read(answer)
            except ApiError as refusal:
                if refusal.status not in WAITING or attempt == ATTEMPTS:
                    raise
                wait = max(wait, refusal.retry_after or 0.0)
            except aiohttp.ClientConnectionError:
                if attempt == ATTEMPTS:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _pages(self, path: str, filters: Mapping[str, Any]) -> AsyncIterator[Any]:
        cursor: str | None = None
        while True:
            at = {} if cursor is None else {"cursor": cursor}
            page = await self.request("GET", path, **filters, **at, limit=PAGE)
            for item in page["items"]:
                yield item
            cursor = page["nextCursor"]
            if cursor is None:
                return

    def _target(self, path: str, **query: Any) -> URL:
        if self._account is not None:
            query["account"] = self._account
        given = {n: str(v).lower() if isinstance(v, bool) else str(v) for n, v in query.items()}
        return self._url.joinpath(path.lstrip("/"), encoded=True).with_query(given)

    def _headers(self, method: str, url: URL, data: bytes) -> dict[str, str]:
        headers = {KEY_HEADER: self._key, "Content-Type": "application/json"}
        if self._secret is not None:
            timestamp = int(time.time() * 1000)
            target = url.raw_path_qs
            headers[TIMESTAMP_HEADER] = str(timestamp)
            headers[SIGNATURE_HEADER] = sign(self._secret, timestamp, method, target, data)
        return headers


async def _read(answer: aiohttp.ClientResponse) -> Any:
    raw = await answer.read()
    said = json.loads(raw) if answer.content_type == "application/json" and raw else None
    if answer.status >= 400:
        raise ApiError(answer.status, said, answer.headers)
    return said


def _address(network: str, address: str) -> str:
    return f"/v1/addresses/{network}/{address}"
