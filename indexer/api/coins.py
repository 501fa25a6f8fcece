"""`/v1/coins`: what makes deposits. Source: the contract's "Coins"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import asyncpg
from aiohttp import web
from pydantic import Field, StringConstraints

from indexer.api.auth import require
from indexer.api.coin_settings import WithSettings, parse_settings, settings_view
from indexer.api.context import Context, context_of
from indexer.api.errors import Conflict, missing, reply
from indexer.api.inputs import MAX_HEIGHT, Body, Text, bad_field, read_body, refusal
from indexer.chains import NATIVE, Token
from indexer.config import EvmNetwork, Network, TronNetwork
from indexer.coverage import NewCoin, change_coin, register_coin
from indexer.ledger import coin_from
from indexer.model import MAX_DECIMALS, Refused

MAX_ID: Final = 64  # characters of a coin's id
TOKEN_STANDARDS: Final = {1: "erc20", 56: "bep20"}  # by chain id: what an id is made with there
CONTRACT_BYTES: Final = 20  # of a contract's address; a TRC-10 id is fewer digits

_COINS: Final = "select *, status = 'active' as active from coin"

CoinId = Annotated[str, StringConstraints(pattern=rf"^[a-z0-9_]{{1,{MAX_ID}}}$")]

routes = web.RouteTableDef()


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


@routes.post("/v1/coins")
@require("admin")
async def post_coin(request: web.Request) -> web.Response:
    context, body = context_of(request), await read_body(request, CoinBody)
    asset = _asset(context, body)
    token = await _token(context, body, asset)
    network = context.settings.networks[body.network]
    settings = parse_settings(body.given(), token.decimals, network.reorg_window)
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
    async with context.pool.acquire() as connection, connection.transaction():
        coin, covered_from = await _register_first(connection, coins)
    answer = {"message": "coin created", "coin": coin.id, "coveredFrom": covered_from}
    return reply(answer, 201)


async def _register_first(
    connection: asyncpg.Connection, coins: Sequence[NewCoin]
) -> tuple[NewCoin, int]:
    """Register the first of some that differ in nothing but their id, whose id is free."""
    for coin in coins:
        try:
            async with connection.transaction():
                return coin, await register_coin(connection, coin)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != "coin_pkey":
                raise Conflict(f"network {coin.network} has a coin of that contract") from None
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


def _standard(network: Network, asset: bytes) -> str | None:
    if isinstance(network, TronNetwork):
        return "trc20" if len(asset) == CONTRACT_BYTES else "trc10"
    return TOKEN_STANDARDS.get(network.chain_id) if isinstance(network, EvmNetwork) else None


@routes.put("/v1/coins/precreate-token")
@require("admin")
async def precreate_token(request: web.Request) -> web.Response:
    context, body = context_of(request), await read_body(request, Precreate)
    asset = _asset(context, body)
    token = await context.tokens(body.network, asset)
    ids = _ids(context.settings.networks[body.network], asset, token.symbol)
    taken = await context.pool.fetch("select id from coin where id = any ($1)", ids)
    free = [coin_id for coin_id in ids if coin_id not in {row["id"] for row in taken}]
    return reply(
        {
            "coin": (free or ids)[0],
            "symbol": token.symbol,
            "name": token.name,
            "decimals": token.decimals,
        },
        201,
    )


@routes.put("/v1/coins")
@require("admin")
async def put_coin(request: web.Request) -> web.Response:
    context, body = context_of(request), await read_body(request, CoinChange)
    row = await _find(context, body.coin)
    network = context.settings.networks[row["network"]]
    changes = parse_settings(body.given(), row["decimals"], network.reorg_window)
    if body.status is not None:
        changes["active"] = body.status == "ACTIVE"
    if changes:
        codec = context.codecs[row["network"]]
        async with context.pool.acquire() as connection, connection.transaction():
            await change_coin(
                connection, row["network"], codec, network.required, body.coin, changes
            )
    return reply({"message": "coin changed" if changes else "nothing to change"})


@routes.get("/v1/coins")
@require("any")
async def list_coins(request: web.Request) -> web.Response:
    context = context_of(request)
    rows = await context.pool.fetch(
        " ".join([_COINS, "where network = any ($1) order by id"]), list(context.codecs)
    )
    return reply([_coin(row, context) for row in rows])


@routes.get("/v1/coins/{coin}")
@require("any")
async def get_coin(request: web.Request) -> web.Response:
    context = context_of(request)
    return reply(_coin(await _find(context, request.match_info["coin"]), context))


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


def _coin(row: Any, context: Context) -> dict[str, Any]:
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
        "settings": settings_view(coin),
        "network": {"network": coin.network},
    }
