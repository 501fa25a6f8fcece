"""Which part of an endpoint is told to fail, and that there is advice for each."""

from __future__ import annotations

import pytest

from indexer.chains.answers import Malformed, Missing, NotProved
from indexer.chains.jsonrpc import NodeError
from indexer.chains.rpc import Endpoint, EndpointFailed, NotServed, Overloaded, TooLarge, TooSlow
from indexer.check import ADVICE, part_of
from indexer.model import Refused, Unavailable

NODE = Endpoint("http://127.0.0.1:8545")


@pytest.mark.parametrize(
    ("failure", "part"),
    [
        (EndpointFailed("n can't be reached"), "connection"),
        (Unavailable("?"), "connection"),
        (TooSlow("n"), "capacity"),
        (TooLarge("n"), "capacity"),
        (Overloaded("n"), "capacity"),
        (NodeError(NODE, "eth_x", -32601, "no such method"), "service"),
        (NotServed("n"), "service"),
        (Missing("n"), "blocks"),
        (NotProved("n"), "proof"),
        (Malformed("n"), "proof"),
        (Refused("n serves chain 5, not 1"), "settings"),
    ],
)
def test_a_failure_is_of_one_part_of_an_endpoint(failure: Unavailable | Refused, part: str) -> None:
    assert part_of(failure) == part
    assert part in ADVICE or part == "settings"
