"""`/openapi.json`, and `/docs`: a page that shows it and tries it, with nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
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
    "default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@lru_cache
def _described(operations: tuple[Operation, ...]) -> bytes:
    return dump(document(operations, version("depositd")))


def routes(operations: Sequence[Operation]) -> web.RouteTableDef:
    """The two routes, for a server of these operations."""
    table = web.RouteTableDef()
    described = _described(tuple(operations))
    page = files("indexer.api").joinpath("docs.html").read_text(encoding="utf-8")

    headers = {
        "Content-Security-Policy": POLICY.format(
            style=_digest(page, "style"), script=_digest(page, "script")
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    @table.get("/openapi.json")
    async def openapi(_: web.Request) -> web.Response:
        return reply_dumped(described)

    @table.get("/docs")
    async def docs(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", headers=headers)

    return table


def _digest(page: str, tag: str) -> str:
    """Of what the tag holds, as a policy names it: nothing else in the page is carried out."""
    held = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(held.encode()).digest()).decode()
