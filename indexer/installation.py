"""An installation's database and secrets, opened: the configured PostgreSQL, or the embedded one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg

from indexer import config, database
from indexer.embedded import Embedded
from indexer.model import Unavailable
from indexer.secret import Vault


class DatabaseUnavailable(Unavailable):
    """PostgreSQL can't be reached, or does not let us in."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What every command that touches stored data works with."""

    pool: asyncpg.Pool
    vault: Vault
