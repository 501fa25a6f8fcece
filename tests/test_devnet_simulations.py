"""The demo's networks: the same in every run, and foretold in their own texts."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from indexer.devnet.account import PLANS
from indexer.devnet.simulation import Simulation
from indexer.devnet.simulations import ADDRESSES, simulations

STEPS = 20


def run() -> Sequence[Simulation]:
    networks = simulations()
    for network in networks:
        for _ in range(STEPS):
            network.step()
            network.observe()
    return networks


def hashes(networks: Sequence[Simulation]) -> list[list[bytes]]:
    return [[block.hash for block in n.traffic.chain.branch()] for n in networks]


def test_every_run_mines_the_same_blocks_in_whatever_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = hashes(run())
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert hashes(run()) == first
    assert [len(blocks) > STEPS for blocks in first] == [True] * 3


def test_each_network_foretells_in_its_own_texts() -> None:
    for network in run():
        addresses = network.traffic.addresses
        assert len(addresses) == ADDRESSES
        names = list(network.history(addresses, []))
        assert {name[0] for name in names} == {network.id}
        texts = set(network.texts(addresses))
        assert {name[2] for name in names} <= texts
        assert [network.codec.parse_address(text) for text in network.texts(addresses)] == addresses
        assets = {name[3] for name in names}
        registered = {network.codec.format_asset(asset) for asset in network.traffic.assets}
        assert assets == {"native", *registered}


def test_every_network_is_reorganised_and_pays_from_its_hot_wallet() -> None:
    for network in run():
        everyone = network.traffic.addresses
        assert network.reorgs >= 2
        assert network.history(everyone, []) != network.history(everyone, [network.traffic.own])


def test_the_accounts_share_an_address_and_leave_none_out() -> None:
    watched = [index for plan in PLANS for index in range(ADDRESSES)[plan.watches]]
    assert set(watched) == set(range(ADDRESSES))
    assert len(watched) == ADDRESSES + 1
