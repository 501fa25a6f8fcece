"""What Prometheus is told of networks and deposits.

The first part is counted by the process that follows; the second, which `census` fills, is what the
database knows: every process with the API tells the same of it, so take `max by (network)`.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

BLOCKS: Final = Counter("depositd_blocks", "Blocks applied to our branch", ["network"])
TRANSFERS: Final = Counter(
    "depositd_transfers", "Movements in them that may be a watched address's", ["network"]
)
DECODE_SECONDS: Final = Histogram(
    "depositd_decode_seconds",
    "What finding one block's transfers took",
    ["network"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
COMMIT_SECONDS: Final = Histogram(
    "depositd_commit_seconds",
    "One transaction with its blocks, deposits, events and cursor",
    ["network"],
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
BLOCK_LATENCY_SECONDS: Final = Histogram(
    "depositd_block_latency_seconds",
    "From the first sight of a new head to its commit, while at the head",
    ["network"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
REORG_DEPTH: Final = Histogram(
    "depositd_reorg_depth_blocks",
    "Blocks of ours that a reorganisation replaced",
    ["network"],
    buckets=(1, 2, 3, 5, 8, 12, 20, 32, 64, 128, 256),
)
FAILURES: Final = Counter(
    "depositd_network_failures", "Steps that failed and were tried again", ["network", "kind"]
)
WATCHED: Final = Gauge("depositd_watched_keys", "Address keys in memory", ["network"])
WATCHED_BYTES: Final = Gauge("depositd_watched_bytes", "What they take of it", ["network"])

DATABASE_UP: Final = Gauge("depositd_database_up", "1 while the database answers this process")
CONNECTIONS: Final = Gauge(
    "depositd_database_connections", "Of this process's pool: open, idle, most", ["state"]
)
CURSOR: Final = Gauge("depositd_cursor_height", "Last block applied", ["network"])
HEAD: Final = Gauge("depositd_tip_height", "Head that a node named last", ["network"])
LAG: Final = Gauge("depositd_lag_blocks", "Blocks from the cursor to the tip", ["network"])
HEAD_AGE: Final = Gauge(
    "depositd_tip_age_seconds", "Since the tip was last seen to rise", ["network"]
)
CURSOR_AGE: Final = Gauge(
    "depositd_cursor_age_seconds", "Since the last block applied, by the block's clock", ["network"]
)
FINALIZED: Final = Gauge("depositd_finalized_height", "Last block that is final", ["network"])
FINALIZED_AGE: Final = Gauge(
    "depositd_finalized_age_seconds",
    "Since the last final block, by the block's clock, while its header is kept",
    ["network"],
)
SEEN_AGE: Final = Gauge(
    "depositd_network_seen_age_seconds", "Since a process last spoke of the network", ["network"]
)
RULES: Final = Gauge(
    "depositd_network_rules",
    "1, with the settings by which blocks are believed; empty: the family has no such setting",
    ["network", "verify", "native", "quorum", "finality"],
)
STATE: Final = Gauge("depositd_network_state", "1 at the network's state", ["network", "state"])
SCANS: Final = Gauge("depositd_scan_blocks", "Past blocks that are still to be read", ["network"])
DEPOSITS: Final = Gauge("depositd_deposits", "Deposits by state", ["network", "state"])
DUE: Final = Gauge(
    "depositd_deliveries_due",
    "Deliveries that may be sent now; counted up to 100,000",
)
OLDEST_DUE: Final = Gauge(
    "depositd_delivery_oldest_due_seconds", "How long the oldest of them has been due"
)
LATE: Final = Gauge(
    "depositd_late",
    "1 while the watchdog calls it late: a network's tip, or `deliveries`",
    ["what"],
)
# What `census` knows of networks only while the database answers.
OF_NETWORKS: Final = (
    *(CURSOR, HEAD, LAG, HEAD_AGE, CURSOR_AGE, FINALIZED, FINALIZED_AGE, SEEN_AGE),
    *(STATE, SCANS, DEPOSITS),
)
