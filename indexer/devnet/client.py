"""The HTTP API as a user calls it: what the demo asks of the engine it runs."""

from __future__ import annotations

from typing import Any, Final

import aiohttp

from indexer.model import Impossible

PAGE: Final = 1000  # items a list call may return


class ApiClient:
    """One API with one key."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._key = key

    def as_(self, key: str) -> ApiClient:
        """The same API with another key."""
        return ApiClient(self._session, self._url, key)

    async def get(self, path: str) -> Any:
        return await self._call("GET", path, None)

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        return await self._call("POST", path, body)

    async def events(self, after: int) -> list[dict[str, Any]]:
        """The account's whole feed behind a position."""
        items: list[dict[str, Any]] = []
        while True:
            page = await self.get(f"/v1/events?after={after}&limit={PAGE}")
            items += page["items"]
            if page["nextCursor"] is None:
                return items
            after = int(page["nextCursor"])

    async def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"X-Api-Key": self._key}
        url = self._url + path
        async with self._session.request(method, url, json=body, headers=headers) as reply:
            answer = await reply.json()
            if reply.status >= 400:
                raise Impossible(f"{method} {path}: {reply.status} {answer['error']}")
            return answer
