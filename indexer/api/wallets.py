"""`/v1/wallets`: watch-only wallets, and an address for each of their owner's references."""

from __future__ import annotations

from typing import Annotated, Any, Final

import asyncpg
from pydantic import StringConstraints
from typing_extensions import TypedDict

from indexer.api.accounts import random_id
from indexer.api.errors import Conflict, missing
from indexer.api.inputs import Body, Text, bad_field, refusal
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page, PageQuery, Statement, page
from indexer.api.shapes import Time
from indexer.chains.extended_key import MAX_INDEX, BadPath, ExtendedKey
from indexer.coverage import NewAddress, register_addresses
from indexer.model import Refused, format_time

MAX_KEY: Final = 256  # characters of an extended key; it has 111

routes = Routes("Wallets")

# Never shown in an error: it may be a private key.
KeyText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY)]


class NewWallet(Body):
    network: Text
    xpub: KeyText
    name: Text | None = None
    path: Text | None = None


class NewWalletAddress(Body):
    reference: Text


class CreatedWallet(TypedDict):
    id: str


class Wallet(CreatedWallet):
    network: str
    name: str | None
    path: str
    addresses: int
    createdAt: Time


class WalletAddress(TypedDict):
    network: str
    address: str
    reference: str
    index: int
    coveredFrom: int


@routes.operation(
    "POST", "/v1/wallets", needs="write", takes=NewWallet, answer=CreatedWallet, status=201
)
async def create_wallet(call: Call, body: NewWallet) -> CreatedWallet:
    """Register a wallet by its extended public key; `path` leads to its addresses, like 0/*."""
    account, context = call.acting_account, call.context
    forms = context.codec(body.network).wallet_forms
    try:
        key = ExtendedKey(body.xpub, forms, body.path)
    except Refused as error:
        field = "path" if isinstance(error, BadPath) else "xpub"
        raise refusal([bad_field(field, str(error))]) from None
    wallet, connection = random_id("wal_"), await call.begin()
    try:
        await connection.execute(
            """
            insert into wallet (id, account, network, name, xpub, identity, path)
            values ($1, $2, $3, $4, $5, $6, $7)
            """,
            wallet,
            account,
            body.network,
            body.name,
            context.vault.encrypt(body.xpub.strip().encode(), wallet),
            key.identity,
            key.path,
        )
    except asyncpg.UniqueViolationError:
        raise Conflict("this wallet is registered already") from None
    return {"id": wallet}


@routes.operation("GET", "/v1/wallets", needs="read", takes=PageQuery, answer=Page[Wallet])
async def list_wallets(call: Call, query: PageQuery) -> Page[Wallet]:
    """List wallets, newest first; no key is shown."""
    statement = Statement("select * from wallet")
    if (account := call.account) is not None:
        statement.where("account = ?", account)
    text = statement.page(query, "created_at", "id")
    rows = await call.context.pool.fetch(text, *statement.arguments)
    return page(rows, query, "id", _wallet)


@routes.operation(
    "POST",
    "/v1/wallets/{id}/addresses",
    needs="write",
    takes=NewWalletAddress,
    answer=WalletAddress,
    status=201,
)
async def derive_address(call: Call, body: NewWalletAddress) -> WalletAddress:
    """Watch the wallet's next unused address; the same reference gets the same address always."""
    account, context, connection = call.acting_account, call.context, await call.begin()
    # The wallet's lock makes indices follow one another, however many ask at once.
    wallet = await connection.fetchrow(
        "select * from wallet where id = $1 and account = $2 for no key update",
        call.path["id"],
        account,
    )
    if wallet is None:
        raise missing("wallet", call.path["id"])
    codec = context.codec(wallet["network"])
    index, key = await _given(connection, wallet, body.reference)
    if index is None or key is None:
        index = wallet["next_index"]
        if index > MAX_INDEX:
            raise Conflict("this wallet has no address left")
        xpub = context.vault.decrypt(wallet["xpub"], wallet["id"]).decode()
        key = ExtendedKey(xpub, codec.wallet_forms, wallet["path"]).address_key(index)
        await _take(connection, wallet["id"], body.reference, index, key)
    address = NewAddress(key, body.reference)
    done = await register_addresses(connection, wallet["network"], account, [address], silent=False)
    return {
        "network": wallet["network"],
        "address": codec.format_address(key),
        "reference": body.reference,
        "index": index,
        "coveredFrom": done.covered_from,
    }


async def _given(
    connection: asyncpg.Connection, wallet: Any, reference: str
) -> tuple[int | None, bytes | None]:
    """The index and the address key that a reference has already."""
    row = await connection.fetchrow(
        "select index, address from wallet_address where wallet = $1 and reference = $2",
        wallet["id"],
        reference,
    )
    return (None, None) if row is None else (row["index"], row["address"])


async def _take(
    connection: asyncpg.Connection, wallet: str, reference: str, index: int, key: bytes
) -> None:
    await connection.execute(
        "insert into wallet_address (wallet, reference, index, address) values ($1, $2, $3, $4)",
        wallet,
        reference,
        index,
        key,
    )
    await connection.execute("update wallet set next_index = $2 where id = $1", wallet, index + 1)


def _wallet(row: Any) -> Wallet:
    return {
        "id": row["id"],
        "network": row["network"],
        "name": row["name"],
        "path": row["path"],
        "addresses": row["next_index"],
        "createdAt": format_time(row["created_at"]),
    }
