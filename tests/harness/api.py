"""The engine's HTTP API as a client sees it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Self

import aiohttp

TIMEOUT: Final = 20.0  # seconds a request
PAGE: Final = 1000


class ApiError(Exception):
    """The API said no; `body` is what it said."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.body = body


class Client:
    """The API at `base` with one key."""

    def __init__(self, base: str, key: str) -> None:
        self.base = base
        self._session: aiohttp.ClientSession | None = None
        self._headers = {"X-Api-Key": key}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT), headers=self._headers
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, method: str, path: str, body: Any = None, **query: str | int) -> Any:
        """The reply's JSON (None where it has none); ApiError unless it is a success."""
        assert self._session is not None, "used outside `async with`"
        async with self._session.request(
            method, self.base + path, json=body, params=query
        ) as response:
            said = await response.json() if response.content_type == "application/json" else None
            if response.status >= 400:
                raise ApiError(response.status, said)
            return said

    async def get(self, path: str, **query: str | int) -> Any:
        return await self.ask("GET", path, **query)

    async def post(self, path: str, body: Any) -> Any:
        return await self.ask("POST", path, body)

    async def put(self, path: str, body: Any) -> Any:
        return await self.ask("PUT", path, body)

    async def delete(self, path: str) -> Any:
        return await self.ask("DELETE", path)

    async def all(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        items: list[dict[str, Any]] = []
        query["limit"] = PAGE
        while True:
            page = await self.get(path, **query)
            items += page["items"]
            if page["nextCursor"] is None:
                return items
            query["cursor"] = page["nextCursor"]

    async def events(self) -> list[dict[str, Any]]:
        """The whole feed of the account's events, oldest first."""
        items: list[dict[str, Any]] = []
        while True:
            after = items[-1]["position"] if items else 0
            page = await self.get("/v1/events", after=after, limit=PAGE)
            if not page["items"]:
                return items
            items += page["items"]
