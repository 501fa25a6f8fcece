"""`GET /v1/totals`: what was deposited, by coin. Sums are whole base units until they are shown."""

from __future__ import annotations

from typing import Any, Final

from typing_extensions import TypedDict

from indexer.api.operation import Call, Routes
from indexer.api.shapes import Amount
from indexer.model import format_amount

routes = Routes("Deposits")

_TOTALS: Final = """
    select c.id, c.network, c.symbol, c.decimals, coalesce(sum(t.confirmed), 0) as confirmed,
           coalesce(sum(t.detected), 0) as detected, coalesce(sum(t.held), 0) as held
      from coin c
      left join total t on t.coin = c.id and ($1::text is null or t.account = $1)
     where c.network = any ($2)
     group by c.id order by c.id
"""


class Total(TypedDict):
    """`confirmed` includes what is finalized."""

    coin: str
    network: str
    symbol: str
    confirmed: Amount
    detected: Amount
    held: Amount


class Totals(TypedDict):
    items: list[Total]
    nextCursor: None


@routes.operation("GET", "/v1/totals", needs="read", answer=Totals)
async def list_totals(call: Call) -> Totals:
    """Sum up the deposits of each coin by state."""
    account, context = call.account, call.context
    rows = await context.pool.fetch(_TOTALS, account, list(context.codecs))
    return {"items": [_total(row) for row in rows], "nextCursor": None}


def _total(row: Any) -> Total:
    def amount(name: str) -> str:
        return format_amount(int(row[name]), row["decimals"])

    return {
        "coin": row["id"],
        "network": row["network"],
        "symbol": row["symbol"],
        "confirmed": amount("confirmed"),
        "detected": amount("detected"),
        "held": amount("held"),
    }
