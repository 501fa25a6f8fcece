"""`/openapi.json`, and `/docs`: a page that shows it and tries it, with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from typing import Final

from aiohttp import web

from indexer.api.errors import dump, reply_dumped
from indexer.api.openapi import document
from indexer.api.operation import Operation

# The page needs its own style and script, its own server, and nothing else.
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@lru_cache
def _described(operations: tuple[Operation, ...]) -> bytes:
    return dump(document(operations, version("depositd")))


def routes(operations: Sequence[Operation]) -> web.RouteTableDef:
    """The two routes, for a server of these operations."""
    table = web.RouteTableDef()
    described = _described(tuple(operations))
    page = files("indexer.api").joinpath("docs.html").read_text(encoding="utf-8")

    @table.get("/openapi.json")
    async def openapi(_: web.Request) -> web.Response:
        return reply_dumped(described)

    @table.get("/docs")
    async def docs(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", headers=PAGE_HEADERS)

    return table
