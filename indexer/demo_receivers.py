"""The demo's endpoints: they print what verifies, and note what should not have come."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from callbacks.receiver import Arrival, Inbox, receiving
from indexer.devnet.screen import Screen, short


@dataclass
class Receiver:
    """An account's endpoint, at `url`. `events` has each once, in the order in which they came."""

    account: str
    screen: Screen
    inbox: Inbox = field(default_factory=Inbox)
    url: str = ""
    events: list[Mapping[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    async def answer(self, arrival: Arrival) -> int:
        if arrival.event is None:
            self.problems.append(f"a callback to {self.account} does not verify: {arrival.problem}")
            return 401
        if arrival.changed:
            self.problems.append(f"{arrival.id} came to {self.account} with two bodies")
        if arrival.repeated:
            return 204
        self.events.append(arrival.event)
        data = arrival.event["data"]
        shown = f"verified, no. {data['sequence']} of {short(data['id'])}"
        self.screen.step("callback", self.account, data, shown)
        return 204


@asynccontextmanager
async def receivers(
    screen: Screen, accounts: Collection[str]
) -> AsyncIterator[Mapping[str, Receiver]]:
    """One for each account, at work."""
    async with AsyncExitStack() as stack:
        made = {account: Receiver(account, screen) for account in accounts}
        for receiver in made.values():
            serving = receiving(receiver.inbox, receiver.answer, time.time)
            receiver.url = await stack.enter_async_context(serving)
        yield made
