"""`depositd status`: where networks and deliveries stand."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from indexer import status
from indexer.console import Commands, configured, opened, printing, settings, show, table


def add(commands: Commands) -> None:
    printing(configured(commands.add("status", run, "networks and deliveries at a glance")))


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    async with opened(settings(chosen, environ)) as installation:
        networks = await status.networks(installation.pool)
        leaders = await status.leaders(installation.pool)
        seen = await status.seen(installation.pool)
        deliveries = await status.deliveries(installation.pool)
    rows: list[dict[str, Any]] = []
    for network in networks:
        name = network["network"]
        row: dict[str, Any] = {
            **network,
            "leader": leaders.get(name),
            "secondsAgo": round(seen[name], 1),
        }
        row["reason"] = row.pop("reason")  # the longest comes last
        rows.append(row)
    text = table(rows) or "no network has started yet"
    owed = "  ".join(f"{name} {count}" for name, count in deliveries.items())
    show(chosen, {"networks": rows, "deliveries": deliveries}, f"{text}\n\ndeliveries: {owed}")
    return 0
