"""The exchange-style routes: deposits for clients written against common exchange account APIs.

Source: the contract's "Exchange-style routes". Times are Unix milliseconds; an empty text means
that nothing was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from indexer.api.context import Context
from indexer.api.inputs import Body, FilterText
from indexer.api.operation import Call, Routes
from indexer.api.pages import EPOCH, Statement
from indexer.api.shapes import Amount
from indexer.model import Refused, State, format_amount

MAX_ROWS: Final = 100
MAX_TIME: Final = 253_402_300_799_999  # milliseconds: the end of the year 9999

# What a deposit is called there. An ignored one is not listed.
STATUS: Final[Mapping[str, str]] = {
    State.DETECTED: "pending",
    State.HELD: "pending",
    State.CONFIRMED: "success",
    State.FINALIZED: "success",
    State.ORPHANED: "cancelled",
    State.REJECTED: "fail",
}
_DEPOSITS: Final = """
    select d.*, c.decimals from deposit d join coin c on c.id = d.coin
"""
_ADDRESSES: Final = """
    select address from watched_address
     where account = $1 and network = $2 and state <> 'removed' and role = 'deposit'
     order by id
"""
D = TypeVar("D")

routes = Routes("Exchange-style")


class SpotBody(Body):
    @model_validator(mode="before")
    @classmethod
    def _nothing_is_absent(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value != ""}


class DepositFilter(SpotBody):
    id: FilterText | None = None
    coin: FilterText | None = None
    type: FilterText | None = None
    transaction_hash: FilterText | None = None
    start_time: int | None = Field(default=None, ge=0, le=MAX_TIME)
    end_time: int | None = Field(default=None, ge=0, le=MAX_TIME)
    limit: int = Field(default=MAX_ROWS, ge=1, le=MAX_ROWS)


class AddressFilter(SpotBody):
    coin: FilterText
    network: FilterText


class Envelope(TypedDict, Generic[D]):
    code: Literal["0"]
    msg: Literal["result.success"]
    data: D
    success: Literal[True]


class SpotDeposit(TypedDict):
    id: str
    transactionHash: str
    coin: str
    network: str
    type: Literal["deposit"]
    fromAddress: str | None
    toAddress: str
    amount: Amount
    status: Literal["pending", "success", "cancelled", "fail"]
    ctime: int


class SpotAddress(TypedDict):
    coin: str
    network: str
    address: str
    memo: None


@routes.operation(
    "POST",
    "/api/spot/v1/deposit/page",
    needs="read",
    takes=DepositFilter,
    answer=Envelope[list[SpotDeposit]],
)
async def spot_deposits(call: Call, body: DepositFilter) -> Envelope[list[SpotDeposit]]:
    """List the account's deposits, newest first."""
    account, context = call.acting_account, call.context
    statement = Statement(_DEPOSITS)
    statement.where("d.account = ? and d.network = any (?::text[])", account, [*context.codecs])
    statement.where("d.state <> 'ignored' and ? = 'deposit'", body.type or "deposit")
    if body.coin is not None:
        statement.where("d.coin = any (?::text[])", [*await _coins(context, body.coin)])
    if body.transaction_hash is not None:
        hashes = _hashes(context, body.transaction_hash)
        pairs = "(d.network, d.tx) in (select * from unnest(?::text[], ?::bytea[]))"
        statement.where(pairs, list(hashes), list(hashes.values()))
    for condition, value in (
        ("d.id = ?", body.id),
        ("d.created_at >= ?", _moment(body.start_time)),
        ("d.created_at < ?::timestamptz + interval '1 millisecond'", _moment(body.end_time)),
    ):
        if value is not None:
            statement.where(condition, value)
    statement.arguments.append(body.limit)
    order = f"order by d.created_at desc, d.id desc limit ${len(statement.arguments)}"
    rows = await context.pool.fetch(f"{statement.text} {order}", *statement.arguments)
    return _enveloped([_deposit(row, context) for row in rows])


@routes.operation(
    "POST",
    "/api/spot/v1/deposit/address",
    needs="read",
    takes=AddressFilter,
    answer=Envelope[list[SpotAddress]],
)
async def spot_addresses(call: Call, body: AddressFilter) -> Envelope[list[SpotAddress]]:
    """List the account's addresses for a coin on a network."""
    account, context = call.acting_account, call.context
    network = _network(context, body.network)
    coins = [c for c, n in (await _coins(context, body.coin)).items() if n == network]
    if not coins:
        raise Refused(f"there is no coin {body.coin!r} on network {network}")
    rows = await context.pool.fetch(_ADDRESSES, account, network)
    codec = context.codecs[network]
    return _enveloped(
        [
            {
                "coin": coins[0],
                "network": network,
                "address": codec.format_address(row["address"]),
                "memo": None,
            }
            for row in rows
        ]
    )


def _enveloped(data: D) -> Envelope[D]:
    return {"code": "0", "msg": "result.success", "data": data, "success": True}


async def _coins(context: Context, name: str) -> dict[str, str]:
    """Networks by coin, of the coin of that id or of all coins of that symbol."""
    rows = await context.pool.fetch(
        "select id, network from coin where (id = $1 or symbol = $1) and network = any ($2)"
        " order by id",
        name,
        list(context.codecs),
    )
    exact = {row["id"]: row["network"] for row in rows if row["id"] == name}
    return exact or {row["id"]: row["network"] for row in rows}


def _network(context: Context, name: str) -> str:
    """The id of a network that is named by it, or by its label."""
    for network in context.settings.networks.values():
        if name in (network.id, network.label):
            return network.id
    raise Refused(f"there is no network {name!r}")


def _hashes(context: Context, text: str) -> dict[str, bytes]:
    """What a transaction hash is on each network that writes its hashes so."""
    found = {}
    for network, codec in context.codecs.items():
        try:
            found[network] = codec.parse_hash(text)
        except Refused:
            continue  # a hash of another family
    return found


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else EPOCH + timedelta(milliseconds=milliseconds)


def _deposit(row: Any, context: Context) -> SpotDeposit:
    codec = context.codecs[row["network"]]
    status: Any = STATUS[row["state"]]
    return {
        "id": row["id"],
        "transactionHash": codec.format_hash(row["tx"]),
        "coin": row["coin"],
        "network": row["network"],
        "type": "deposit",
        "fromAddress": None if row["sender"] is None else codec.format_address(row["sender"]),
        "toAddress": codec.format_address(row["address"]),
        "amount": format_amount(int(row["units"]), row["decimals"]),
        "status": status,
        "ctime": (row["created_at"] - EPOCH) // timedelta(milliseconds=1),
    }
