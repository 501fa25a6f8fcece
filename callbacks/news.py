"""News of an endpoint: events of no deposit, with random ids and no place in the account's feed."""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import asyncpg
import orjson

from indexer.model import ID_CHARS, format_time

TEST: Final = "endpoint.test"
HEARTBEAT: Final = "endpoint.heartbeat"
ID_BYTES: Final = 17  # of randomness; ID_CHARS base32 characters of it are kept


@dataclass(frozen=True, slots=True)
class News:
    """An event before it is stored; `account` None: for the operator."""

    id: str  # the webhook-id
    account: str | None
    type: str
    body: bytes

    @classmethod
    def of(cls, account: str | None, kind: str, moment: datetime, data: Mapping[str, Any]) -> Self:
        event = "evt_" + b32encode(secrets.token_bytes(ID_BYTES)).decode().lower()[:ID_CHARS]
        body = {"type": kind, "timestamp": format_time(moment), "data": data}
        return cls(event, account, kind, orjson.dumps(body))


async def store(connection: asyncpg.Connection, news: Sequence[News]) -> None:
    """Append them to the events; their deliveries are the caller's, in the same transaction."""
    await connection.execute(
        """
        insert into event (id, account, type, body)
        select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[])
        """,
        [each.id for each in news],
        [each.account for each in news],
        [each.type for each in news],
        [each.body for each in news],
    )
