"""`depositd status`: where networks and deliveries stand."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Final

from indexer import status
from indexer.console import Commands, configured, opened, printing, settings, show, table

# What an operator does about deliveries that wait for one.
_ADVICE: Final[Mapping[str, str]] = {
    "held": "held: their endpoints are paused or disabled until somebody resumes them",
    "exhausted": "exhausted: their receivers failed for three days; a resend sends them again",
}


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
    show(chosen, {"networks": rows, "deliveries": deliveries}, _text(rows, deliveries))
    return 0


def _text(networks: Sequence[Mapping[str, Any]], deliveries: Mapping[str, int]) -> str:
    """What fits a terminal: a line a network, then what ails any of them, then what is owed."""
    lines = [{name: n[name] for name in n if name != "reason"} for n in networks]
    ills = "\n".join(f"{n['network']}: {n['reason']}" for n in networks if n["reason"] is not None)
    owed = "deliveries: " + "  ".join(f"{name} {count}" for name, count in deliveries.items())
    advice = "\n".join(text for name, text in _ADVICE.items() if deliveries[name])
    parts = (table(lines) or "no network has started yet", ills, owed, advice)
    return "\n\n".join(part for part in parts if part)
