"""`/metrics` of a running engine: what it counts and what the database knows, under their names."""

from __future__ import annotations

import re
import time
import timeit
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from indexer.chains.metrics import FETCH_SECONDS, PROVE_SECONDS
from indexer.devnet.evm_chain import SimulatedChain
from indexer.meter import Meter
from tests.harness.engine import Engine, engine
from tests.harness.terminal import Node, until
from tests.test_docker import family, told

BLOCKS: Final = 12


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.watchdog.LOOK_SECONDS", 0.05)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    chain = SimulatedChain(1, finality=8)
    for _ in range(BLOCKS):
        chain.mine()
    async with Node(chain) as node:
        yield node


def network(node: Node, **more: Any) -> dict[str, dict[str, Any]]:
    table = {
        "family": "evm",
        "chain_id": node.chain.chain_id,
        "endpoints": [node.url],
        "confirmations": 2,
        "poll_interval": 0.05,
        "reorg_window": 8,
    }
    return {"metered": {**table, **more}}


@pytest.fixture
async def running(tmp_path: Path, dsn: str, node: Node) -> AsyncIterator[Engine]:
    async with engine(tmp_path, dsn, network(node)) as made:
        yield made


async def scraped(made: Engine) -> tuple[dict[str, str], dict[tuple[str, ...], float]]:
    """Kinds by name; and the samples of our network by name and its other labels' values."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{made.base}/metrics") as response,
    ):
        families = [*text_string_to_metric_families(await response.text())]
    samples: dict[tuple[str, ...], float] = {}
    for sample in (sample for each in families for sample in each.samples):
        labels: dict[str, str] = dict(sample.labels)
        if labels.pop("network", "metered") == "metered":
            samples[sample.name, *labels.values()] = sample.value
    return {each.name: each.type for each in families}, samples


async def reaches(made: Engine, **wanted: float) -> dict[tuple[str, ...], float]:
    """The samples once these have their values."""
    found: dict[tuple[str, ...], float] = {}

    async def there() -> bool:
        found.update((await scraped(made))[1])
        return all(found.get((name,)) == value for name, value in wanted.items())

    try:
        await until(there, 20)
    except TimeoutError:
        raise AssertionError({name: found.get((name,)) for name in wanted}) from None
    return found


async def test_a_network_s_progress_is_told(running: Engine, node: Node) -> None:
    before = await reaches(running, depositd_cursor_height=BLOCKS, depositd_lag_blocks=0)
    assert before["depositd_network_state", "following"] == 1
    node.chain.mine()
    node.chain.mine()
    await reaches(running, depositd_tip_height=BLOCKS + 2, depositd_cursor_height=BLOCKS + 2)
    node.chain.reorg(3, longer=1)
    after = await reaches(
        running,
        depositd_blocks_total=before["depositd_blocks_total",] + 2 + 4,
        depositd_reorg_depth_blocks_count=before["depositd_reorg_depth_blocks_count",] + 1,
        depositd_finalized_height=BLOCKS + 3 - 8,
    )

    def grown(*name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown("depositd_reorg_depth_blocks_sum") == 3
    assert grown("depositd_decode_seconds_count") >= 6
    assert grown("depositd_prove_seconds_count") >= 6
    assert 2 <= grown("depositd_commit_seconds_count") <= 3
    assert 2 <= grown("depositd_block_latency_seconds_count") <= 3
    assert grown("depositd_fetch_seconds_count", node.url.rstrip("/")) >= 6
    assert 0 <= after["depositd_tip_age_seconds",] < 20
    assert after["depositd_database_connections", "open"] >= 1


async def test_a_node_s_health_failures_and_repeated_requests_are_told(
    running: Engine, node: Node
) -> None:
    url = node.url.rstrip("/")
    await reaches(running, depositd_cursor_height=BLOCKS)
    _, before = await scraped(running)
    assert before["depositd_node_state", url, "healthy"] == 1
    assert before["depositd_node_followed", url] == 1
    await node.__aexit__(None, None, None)

    async def failing() -> bool:
        _, now = await scraped(running)
        return now["depositd_node_state", url, "failing"] == 1

    await until(failing, 20)
    _, after = await scraped(running)
    assert after["depositd_node_state", url, "healthy"] == 0
    assert after["depositd_node_retries_total", url, "endpoint_failed"] >= 2
    assert after["depositd_node_failures_total", url, "endpoint_failed"] >= 1
    assert after["depositd_network_failures_total", "endpoint_failed"] >= 1


async def test_an_engine_whose_tip_stands_still_is_not_ready_until_it_rises(
    tmp_path: Path, dsn: str, node: Node
) -> None:
    async with (
        engine(tmp_path, dsn, network(node, tip_alarm=1.0)) as made,
        aiohttp.ClientSession() as session,
    ):

        async def says(path: str, status: int) -> Any:
            async with session.get(made.base + path) as response:
                return await response.json() if response.status == status else None

        async def late() -> bool:
            return await says("/readyz", 503) is not None

        await until(late, 20)
        for told in (await says("/readyz", 503))["details"], (await says("/healthz", 200))["late"]:
            [reason] = told
            assert reason.startswith("network metered: no new head for ")
        node.chain.mine()

        async def ready() -> bool:
            return await says("/readyz", 200) is not None

        await until(ready, 20)


async def test_a_running_engine_tells_every_metric_that_docker_names(running: Engine) -> None:
    kinds, _ = await scraped(running)
    assert {family(name) for name in told()} <= kinds.keys()


@pytest.mark.pitfall("P64")
async def test_how_blocks_are_believed_is_told(tmp_path: Path, dsn: str, node: Node) -> None:
    async with engine(tmp_path, dsn, network(node, verify="bloom", finality="depth")) as made:
        _, samples = await scraped(made)
    assert samples["depositd_network_rules", "depth", "transactions", "1", "bloom"] == 1


async def test_names_follow_the_conventions(running: Engine) -> None:
    kinds, samples = await scraped(running)
    ours = {name: kind for name, kind in kinds.items() if name.startswith("depositd_")}
    assert len(ours) > 30
    for name, kind in ours.items():
        assert re.fullmatch("[a-z_]+", name)
        assert not re.search("_(ms|millis|minutes|hours|days|kb|mb)(_|$)", name)
        if kind == "histogram":
            assert name.endswith(("_seconds", "_blocks")), name
        if kind == "gauge":
            assert not name.endswith(("_total", "_count", "_sum")), name
    for name, *_ in samples:
        assert "secret" not in name


def test_latency_is_counted_from_the_first_sight_of_the_head_and_at_the_head_alone() -> None:
    now = 100.0
    meter = Meter("latency", lambda: now)

    def latency(part: str) -> float:
        value = REGISTRY.get_sample_value(
            f"depositd_block_latency_seconds_{part}", {"network": "latency"}
        )
        assert value is not None
        return value

    meter.sees(10)
    now = 101.0
    meter.sees(10)
    now = 103.0
    meter.applied(4, 0, 8)  # not at the head yet
    assert latency("count") == 0
    meter.applied(2, 0, 10)
    assert (latency("count"), latency("sum")) == (1, 3.0)


def test_what_a_block_s_numbers_cost_is_a_hundredth_of_the_cheapest_block() -> None:
    """CPU time; blocks took 3 ms at least (tests/bench/RESULTS.md)."""
    meter = Meter("cost")

    def tell_of_a_block() -> None:
        meter.sees(10)
        for _ in range(2):
            with FETCH_SECONDS.labels("cost", "http://127.0.0.1:8545").time():
                pass
        with PROVE_SECONDS.labels("cost").time(), meter.decoding(), meter.committing():
            pass
        meter.applied(1, 5, 10)

    took = timeit.repeat(tell_of_a_block, number=200, repeat=20, timer=time.process_time)
    assert min(took) / 200 < 30e-6
