"""`GET /v1/audit`: who changed what through the API."""

from __future__ import annotations

import json
from typing import Any

from typing_extensions import TypedDict

from indexer.api.inputs import FilterText, Instant
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page, PageQuery, Statement, page
from indexer.api.shapes import Time
from indexer.model import format_time

routes = Routes("Audit")


class AuditQuery(PageQuery):
    key_id: FilterText | None = None
    since: Instant | None = None
    until: Instant | None = None


class Change(TypedDict):
    """One call that changed something; `details` is its body without secrets."""

    id: str
    at: Time
    account: str | None
    keyId: str
    address: str
    requestId: str
    action: str
    target: str
    details: Any


@routes.operation("GET", "/v1/audit", needs="admin", takes=AuditQuery, answer=Page[Change])
async def list_audit(call: Call, query: AuditQuery) -> Page[Change]:
    """List the calls that changed something, newest first."""
    statement = Statement("select *, at as created_at from audit")
    for condition, value in (
        ("account = ?", call.account),
        ("key_id = ?", query.key_id),
        ("at >= ?", query.since),
    ):
        if value is not None:
            statement.where(condition, value)
    text = statement.page(query, "at", "id", int, query.until)
    rows = await call.context.pool.fetch(text, *statement.arguments)
    return page(rows, query, "id", _change)


def _change(row: Any) -> Change:
    return {
        "id": str(row["id"]),
        "at": format_time(row["at"]),
        "account": row["account"],
        "keyId": row["key_id"],
        "address": str(row["address"]),
        "requestId": row["request_id"],
        "action": row["action"],
        "target": row["target"],
        "details": json.loads(row["details"]),
    }
