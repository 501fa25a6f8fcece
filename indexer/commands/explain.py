"""`depositd explain`: what became of a transaction, step by step."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from indexer import check, config
from indexer.chains import Chain
from indexer.chains.families import codec, open_chain
from indexer.console import Commands, configured, network, opened, printing, settings, show
from indexer.explain import Explainer, Explanation
from indexer.explain.nodes import Reach
from indexer.explain.steps import Step
from indexer.explain.ways import Way
from indexer.model import Refused

_WORDS: Final = {"passed": "ok", "waits": "waits", "ended": "ended"}


def add(commands: Commands) -> None:
    text = "why a transaction did or did not become a deposit and a callback"
    explain = printing(configured(commands.add("explain", run, text)))
    explain.add_argument("network", metavar="NETWORK")
    explain.add_argument("transaction", metavar="TXHASH")


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    read = settings(chosen, environ)
    wanted = network(read, chosen.network)
    codecs = {name: codec(each) for name, each in read.networks.items()}
    codecs[wanted.id].parse_hash(chosen.transaction)  # refused before a database is opened
    async with opened(read) as installation:
        known = await check.identities(installation.pool)
        explainer = Explainer(
            installation.pool, installation.vault, read.networks, codecs, _reach(read, known)
        )
        explanation = await explainer.explain(wanted.id, chosen.transaction, None)
    show(chosen, explanation, "\n".join(_lines(explanation)))
    return 0


def _reach(read: config.Settings, known: Mapping[str, str]) -> Reach:
    """Adapters of our own; `known`: the chain that the database follows of each network."""

    @asynccontextmanager
    async def reach(name: str) -> AsyncIterator[Chain]:
        chain = open_chain(name, read.networks[name])
        try:
            identity = await chain.connect()
            if known.get(name, identity) != identity:
                raise Refused(f"they serve {identity}, this database follows {known[name]}")
            yield chain
        finally:
            await chain.close()

    return reach


def _lines(explanation: Explanation) -> Iterator[str]:
    yield f"{explanation['network']} {explanation['transactionHash']}"
    yield from _steps(explanation["steps"])
    for way in explanation["transfers"]:
        yield ""
        yield _title(way)
        yield from _steps(way["steps"])
    if explanation["omitted"]:
        yield f"\nand {explanation['omitted']} more transfers"


def _title(way: Way) -> str:
    what = way["amountUnits"] + " base units of " + (way["contractAddress"] or "the native coin")
    if way["amount"] is not None:
        what = f"{way['amount']} {way['coin']}"
    whose = "" if way["account"] is None else f" ({way['account']})"
    return f"{what} to {way['toAddress']}{whose}"


def _steps(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        yield f"  {_WORDS[step['result']]:<6} {step['step']:<13} {step['sentence']}"
        if step["advice"] is not None and step["result"] != "passed":
            yield f"{'':>9}{'':<14}-> {step['advice']}"
