"""`/v1/coins`: what makes deposits. Source: the contract's "Coins"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import asyncpg
from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from indexer.api.coin_settings import Settings, WithSettings, parse_settings, settings_view
from indexer.api.context import Context
from indexer.api.errors import Conflict, missing
from indexer.api.inputs import MAX_HEIGHT, Body, Text, bad_field, refusal
from indexer.api.operation import Call, Routes
from indexer.chains import NATIVE, Token
from indexer.coins import NewCoin, change_coin, register_coin
from indexer.config import EvmNetwork, Network, TronNetwork
from indexer.ledger import coin_from
from indexer.model import MAX_DECIMALS, Refused

MAX_ID: Final = 64  # characters of a coin's id
TOKEN_STANDARDS: Final = {1: "erc20", 56: "bep20"}  # by chain id: what an id is made with there
CONTRACT_BYTES: Final = 20  # of a contract's address; a TRC-10 id is fewer digits

_COINS: Final = "select *, status = 'active' as active from coin"

CoinId = Annotated[str, StringConstraints(pattern=rf"^[a-z0-9_]{{1,{MAX_ID}}}$")]

routes = Routes("Coins")


class CoinBody(WithSettings):
    network: Text
    contract_address: Text
    coin: CoinId | None = None
    name: Text | None = None
    symbol: Text | None = None
    decimals: int | None = Field(default=None, ge=0, le=MAX_DECIMALS)
    from_block: int | None = Field(default=None, ge=0, le=MAX_HEIGHT)


class CoinChange(WithSettings):
    coin: Text
    status: Literal["ACTIVE", "INACTIVE"] | None = None


class Precreate(Body):
    network: Text
    contract_address: Text


class CoinNetwork(TypedDict):
    network: str


class CoinView(TypedDict):
    coin: str
    name: str
    symbol: str
    type: Literal["NATIVE", "TOKEN"]
    decimals: int
    contractAddress: str | None
    status: Literal["ACTIVE", "INACTIVE"]
    coveredFrom: int
    activeFrom: int | None
    settings: Settings
    network: CoinNetwork


class CoinCreated(TypedDict):
    message: str
    coin: str
    coveredFrom: int


class CoinChanged(TypedDict):
    message: str


class TokenFound(TypedDict):
    coin: str
    symbol: str
    name: str
    decimals: int


@routes.operation(
    "POST", "/v1/coins", needs="admin", takes=CoinBody, answer=CoinCreated, status=201
)
async def create_coin(call: Call, body: CoinBody) -> CoinCreated:
    """Register a token by its contract; from now on it makes deposits."""
    context = call.context
    asset = _asset(context, body)
    token = await _token(context, body, asset)
    network = context.settings.networks[body.network]
    settings = parse_settings(
        body.given(), token.decimals, network.reorg_window, checkable=_checkable(network, asset)
    )
    ids = _ids(network, asset, token.symbol) if body.coin is None else [body.coin]
    coins = [
        NewCoin(
            id=coin_id,
            network=body.network,
            asset=asset,
            name=token.name,
            symbol=token.symbol,
            decimals=token.decimals,
            from_block=body.from_block,
            **settings,
        )
        for coin_id in ids
    ]
    coin, covered_from = await _register_first(await call.begin(), coins)
    return {"message": "coin created", "coin": coin.id, "coveredFrom": covered_from}


async def _register_first(
    connection: asyncpg.Connection, coins: Sequence[NewCoin]
) -> tuple[NewCoin, int]:
    """Register the first of some that differ in nothing but their id, whose id is free."""
    for coin in coins:
        try:
            async with connection.transaction():
                return coin, await register_coin(connection, coin)
        except asyncpg.UniqueViolationError:
            known = await connection.fetchval(
                "select id from coin where network = $1 and asset = $2", coin.network, coin.asset
            )
            if known is not None:
                message = f"network {coin.network} has a coin of that contract: {known}"
                raise Conflict(message) from None
    taken = " and ".join(coin.id for coin in coins)
    raise Conflict(f"the id {taken} is taken: name another one as coin")


async def _token(context: Context, body: CoinBody, asset: bytes) -> Token:
    """What the body says, the rest read from the contract, whose decimals are never overruled.

    A contract that does not say what it is can be registered by saying all of it (P41).
    """
    name, symbol, decimals = body.name, body.symbol, body.decimals
    try:
        read = await context.tokens(body.network, asset)
    except Refused:
        if name is None or symbol is None or decimals is None:
            raise
        return Token(name, symbol, decimals)
    if decimals not in (None, read.decimals):
        error = f"{decimals} is given, but the contract says {read.decimals}"
        raise refusal([bad_field("decimals", error)])
    return Token(name or read.name, symbol or read.symbol, read.decimals)


def _ids(network: Network, asset: bytes, symbol: str) -> list[str]:
    """Ids for a token, the best first."""
    word = re.sub("[^a-z0-9]+", "_", symbol.lower()).strip("_")
    if not word:
        raise Refused(f"the symbol {symbol!r} makes no id: name one as coin")
    ids = [f"{word}_{network.id}"[:MAX_ID]]
    standard = _standard(network, asset)
    return ids if standard is None else [f"{word}_{standard}", *ids]


def _checkable(network: Network, asset: bytes) -> bool:
    """Whether `balanceCheck` is for it: where balances can be asked at a block."""
    return isinstance(network, EvmNetwork) and asset != NATIVE


def _standard(network: Network, asset: bytes) -> str | None:
    if isinstance(network, TronNetwork):
        return "trc20" if len(asset) == CONTRACT_BYTES else "trc10"
    return TOKEN_STANDARDS.get(network.chain_id) if isinstance(network, EvmNetwork) else None


@routes.operation(
    "PUT",
    "/v1/coins/precreate-token",
    needs="admin",
    takes=Precreate,
    answer=TokenFound,
    status=201,
)
async def precreate_token(call: Call, body: Precreate) -> TokenFound:
    """Read what a contract says of itself; nothing is written."""
    context = call.context
    asset = _asset(context, body)
    token = await context.tokens(body.network, asset)
    ids = _ids(context.settings.networks[body.network], asset, token.symbol)
    taken = await context.pool.fetch("select id from coin where id = any ($1)", ids)
    free = [coin_id for coin_id in ids if coin_id not in {row["id"] for row in taken}]
    return {
        "coin": (free or ids)[0],
        "symbol": token.symbol,
        "name": token.name,
        "decimals": token.decimals,
    }


@routes.operation("PUT", "/v1/coins", needs="admin", takes=CoinChange, answer=CoinChanged)
async def change(call: Call, body: CoinChange) -> CoinChanged:
    """Change a coin's settings or status; what stands in no field stays as it is."""
    context = call.context
    row = await _find(context, body.coin)
    network = context.settings.networks[row["network"]]
    changes = parse_settings(
        body.given(),
        row["decimals"],
        network.reorg_window,
        checkable=_checkable(network, row["asset"]),
    )
    if body.status is not None:
        changes["active"] = body.status == "ACTIVE"
    if changes:
        codec = context.codecs[row["network"]]
        await change_coin(
            await call.begin(), row["network"], codec, network.required, body.coin, changes
        )
    return {"message": "coin changed" if changes else "nothing to change"}


@routes.operation("GET", "/v1/coins", needs="any", answer=list[CoinView])
async def list_coins(call: Call) -> list[CoinView]:
    """List all coins."""
    context = call.context
    rows = await context.pool.fetch(
        " ".join([_COINS, "where network = any ($1) order by id"]), list(context.codecs)
    )
    return [_coin(row, context) for row in rows]


@routes.operation("GET", "/v1/coins/{coin}", needs="any", answer=CoinView)
async def get_coin(call: Call) -> CoinView:
    """Show one coin."""
    return _coin(await _find(call.context, call.path["coin"]), call.context)


async def _find(context: Context, coin_id: str) -> Any:
    row = await context.pool.fetchrow(
        " ".join([_COINS, "where id = $1 and network = any ($2)"]), coin_id, list(context.codecs)
    )
    if row is None:
        raise missing("coin", coin_id)
    return row


def _asset(context: Context, body: CoinBody | Precreate) -> bytes:
    codec = context.codec(body.network)
    try:
        return codec.parse_asset(body.contract_address)
    except Refused as error:
        raise refusal([bad_field("contractAddress", str(error), body.contract_address)]) from None


def _coin(row: Any, context: Context) -> CoinView:
    coin = coin_from(row)
    native = coin.asset == NATIVE
    return {
        "coin": coin.id,
        "name": coin.name,
        "symbol": coin.symbol,
        "type": "NATIVE" if native else "TOKEN",
        "decimals": coin.decimals,
        "contractAddress": None
        if native
        else context.codecs[coin.network].format_asset(coin.asset),
        "status": "ACTIVE" if coin.active else "INACTIVE",
        "coveredFrom": coin.covered_from,
        "activeFrom": row["active_from"],
        "settings": settings_view(coin, row["kept"]),
        "network": {"network": coin.network},
    }
