"""A delivery as every route shows it, whether it lives or is finished."""

from __future__ import annotations

from typing import Any, Final, Literal

from typing_extensions import TypedDict

from indexer.api.concealed import DELIVERY, conceal
from indexer.api.shapes import Time, optional_time
from indexer.model import format_time
from indexer.secret import Vault


class Delivery(TypedDict):
    """One event on its way to one endpoint."""

    id: str
    endpoint: str
    event: str
    type: str | None
    deposit: str | None
    sequence: int | None
    state: Literal["pending", "delivered", "exhausted", "cancelled"]
    reason: str | None
    chargedAttempts: int
    dueAt: Time | None
    heldSince: Time | None
    lastStatus: int | None
    lastError: str | None
    createdAt: Time
    doneAt: Time | None


# What `delivery_view` reads: of the tables `d`elivery, `e`ndpoint and e`v`ent. The event of a
# finished one may be forgotten.
LIVE: Final = """
    select d.id, d.endpoint, d.event, v.type, d.deposit, d.sequence, 'pending' as state,
           null as reason, d.attempts, case when e.state = 'active' then d.due_at end as due_at,
           case when e.state <> 'active' then greatest(d.created_at, e.state_since) end
               as held_since,
           d.last_status, d.last_error, d.created_at, null::timestamptz as done_at
      from delivery d join endpoint e on e.id = d.endpoint join event v on v.id = d.event
"""
DONE: Final = """
    select d.id, d.endpoint, d.event, v.type, d.deposit, d.sequence, d.state::text as state,
           d.reason, d.attempts, null::timestamptz as due_at, null::timestamptz as held_since,
           d.last_status, d.last_error, d.created_at, d.done_at
      from delivery_done d left join event v on v.id = d.event
"""


def delivery_view(row: Any, vault: Vault) -> Delivery:
    return {
        "id": conceal(vault, DELIVERY, row["id"]),
        "endpoint": row["endpoint"],
        "event": row["event"],
        "type": row["type"],
        "deposit": row["deposit"],
        "sequence": row["sequence"],
        "state": row["state"],
        "reason": row["reason"],
        "chargedAttempts": row["attempts"],
        "dueAt": optional_time(row["due_at"]),
        "heldSince": optional_time(row["held_since"]),
        "lastStatus": row["last_status"],
        "lastError": row["last_error"],
        "createdAt": format_time(row["created_at"]),
        "doneAt": optional_time(row["done_at"]),
    }
