"""A plain JSON-RPC client that shares nothing with the engine's own."""

from __future__ import annotations

import itertools
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

TIMEOUT: Final = 30.0  # seconds a call


class RpcError(Exception):
    """The node answered with an error object."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        super().__init__(f"{method}: {error.get('message')}")


class Rpc:
    """One node at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, *params: Any, path: str = "") -> Any:
        """The result; RpcError where the node says no. `path`: below its URL."""
        assert self._session is not None, "used outside `async with`"
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        async with self._session.post(self.url + path, json=request) as response:
            answer = await response.json(content_type=None)
        if answer.get("error") is not None:
            raise RpcError(method, answer["error"])
        return answer["result"]

    async def height(self) -> int:
        return int(await self.call("eth_blockNumber"), 16)

    async def block(self, at: int | str) -> dict[str, Any] | None:
        """The block at a height or tag, with its transactions in full."""
        name = at if isinstance(at, str) else hex(at)
        found: dict[str, Any] | None = await self.call("eth_getBlockByNumber", name, True)
        return found

    async def head(self) -> dict[str, Any]:
        found = await self.block("latest")
        assert found is not None
        return found
