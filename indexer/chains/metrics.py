"""What Prometheus is told of nodes and of the blocks that they gave: by the process that asks them.

`network` is the label of all: two networks may ask different paths of one host.
"""

from __future__ import annotations

import re
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

FETCH_SECONDS: Final = Histogram(
    "depositd_fetch_seconds",
    "One request to a node, to the last byte of its answer or its failure",
    ["network", "endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60),
)
PROVE_SECONDS: Final = Histogram(
    "depositd_prove_seconds",
    "What checking one block against its hash took; on EVM networks also parsing it",
    ["network"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
UNPROVED: Final = Counter(
    "depositd_unproved_blocks",
    "Blocks taken though their proof is incomplete (TRON)",
    ["network"],
)
RETRIES: Final = Counter(
    "depositd_node_retries",
    "Requests that were sent again, by what had failed",
    ["network", "endpoint", "kind"],
)
NODE_FAILURES: Final = Counter(
    "depositd_node_failures",
    "What an endpoint was asked for and did not give, by kind",
    ["network", "endpoint", "kind"],
)
STATE: Final = Gauge(
    "depositd_node_state",
    "1 at the state of the endpoint: unchecked, healthy, failing, excluded",
    ["network", "endpoint", "state"],
)
FOLLOWED: Final = Gauge(
    "depositd_node_followed", "1 at the endpoint that is followed", ["network", "endpoint"]
)


def kind(failure: Exception) -> str:
    """A failure's class as a label: `TooSlow` is `too_slow`."""
    return re.sub(r"(?<=.)(?=[A-Z])", "_", type(failure).__name__).lower()
