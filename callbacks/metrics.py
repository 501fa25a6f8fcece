"""What Prometheus is told of callbacks: by the process that sends them."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ATTEMPTS: Final = Counter(
    "depositd_delivery_attempts", "HTTP requests of deliveries, by what came of them", ["result"]
)
TOOK_SECONDS: Final = Histogram(
    "depositd_delivery_attempt_seconds",
    "How long they took",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
REFUSED: Final = Counter(
    "depositd_delivery_outcomes_refused", "Outcomes that came after their lease"
)
FINISHED: Final = Counter(
    "depositd_deliveries_finished", "Deliveries that ended, by how", ["state", "reason"]
)
IN_HAND: Final = Gauge("depositd_deliveries_in_hand", "Claimed by this process, not settled yet")
LATENCY_SECONDS: Final = Histogram(
    "depositd_delivery_latency_seconds",
    "From an event's commit to the end of its delivery; resends aside",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400),
)
CLAIM_SECONDS: Final = Histogram(
    "depositd_delivery_claim_seconds",
    "How long a claim took the database",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
NOTICES: Final = Counter("depositd_endpoint_notices", "News of endpoints, by type", ["type"])
GIVEN_UP_SOON: Final = Gauge(
    "depositd_deliveries_given_up_soon",
    "Held for so long that they are given up within 7 days if nobody resumes their endpoint",
)
CLOCK_SKEW_SECONDS: Final = Gauge(
    "depositd_clock_skew_seconds", "This machine's clock less the database's"
)
OLDEST_SNAPSHOT_SECONDS: Final = Gauge(
    "depositd_database_oldest_snapshot_seconds",
    "Age of the oldest transaction that keeps the database from tidying up",
)
