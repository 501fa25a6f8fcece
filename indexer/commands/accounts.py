"""`depositd account create` and `depositd key create`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from indexer.api import accounts
from indexer.console import (
    Commands,
    configured,
    opened,
    printing,
    settings,
    show,
    text_argument,
)
from indexer.model import Refused


def add(commands: Commands) -> None:
    text = "add an account; prints its id"
    create = commands.group("account", "accounts").add("create", create_account, text)
    printing(configured(create))
    create.add_argument("name", type=text_argument, metavar="NAME")
    create.add_argument("--id", type=text_argument, help="default: a random one")
    text = "add an API key; prints it, once"
    create = commands.group("key", "API keys").add("create", create_key, text)
    printing(configured(create))
    create.add_argument("account", type=text_argument, nargs="?", metavar="ACCOUNT")
    create.add_argument("--scope", action="append", choices=("read", "write"))
    create.add_argument("--admin", action="store_true", help="a key of the installation's operator")


async def create_account(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    async with (
        opened(settings(chosen, environ)) as installation,
        installation.pool.acquire() as connection,
    ):
        account = await accounts.create_account(connection, chosen.name, chosen.id)
    show(chosen, {"id": account}, account)
    return 0


async def create_key(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if chosen.admin == (chosen.account is not None):
        raise Refused("name an account, or say --admin: `depositd key create ACCOUNT`")
    if chosen.admin and chosen.scope:
        raise Refused("--admin and --scope don't go together: an operator's key may do everything")
    scopes = ("admin",) if chosen.admin else tuple(dict.fromkeys(chosen.scope or ("read", "write")))
    async with (
        opened(settings(chosen, environ)) as installation,
        installation.pool.acquire() as connection,
    ):
        made = await accounts.create_key(connection, installation.vault, chosen.account, scopes)
    show(chosen, {"id": made.id, "key": made.key}, made.key)
    return 0
