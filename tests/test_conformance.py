"""What the rest of the engine may expect of every adapter, whatever family it speaks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import pairwise
from typing import Final, TypeAlias

import pytest

from indexer.chains import NATIVE, Block, Chain, Header, Holding, Transfer
from indexer.model import Refused, Unavailable
from tests.evm_samples import Watching
from tests.harness.bitcoind import programs, running
from tests.harness.subjects import Interrupted, Subject, evm, real_utxo, simulated_utxo, tron
from tests.proofs import shown, verify

FIRST: Final = 12  # blocks that each chain is given, every other with a payment
UNITS: Final = 123_456
DEPTH: Final = 6  # blocks that change under a reading: more than one request asks for
SPAN: Final = 12  # blocks of that reading
ROUNDS: Final = 16  # requests before one of which they change

Open: TypeAlias = Callable[[], AbstractAsyncContextManager[Subject]]

SIMULATED: Final = [
    pytest.param(evm, id="evm"),
    pytest.param(tron, id="tron"),
    *[pytest.param(lambda c=coin: simulated_utxo(c), id=coin) for coin in ("btc", "ltc", "doge")],
]


@pytest.fixture(scope="module", params=[*SIMULATED, *programs()])
def opening(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    """How a subject is opened: a real node runs once for the module."""
    if not isinstance(request.param, tuple):
        yield request.param
        return
    coin, program = request.param
    with running(program, tmp_path_factory.mktemp("node") / "node") as url:
        yield lambda: real_utxo(coin, url)


@pytest.fixture
async def subject(opening: Open) -> AsyncIterator[Subject]:
    """With some blocks, and its adapter connected."""
    async with opening() as made:
        for number in range(FIRST):
            if number % 2:
                await made.pay(UNITS + number)
            await made.mine()
        await made.adapter.connect()
        yield made
        await made.adapter.close()


async def read(chain: Chain, first: int, last: int) -> list[Block]:
    return [block async for block in chain.blocks(first, last)]


async def paid(subject: Subject, first: int, last: int) -> dict[bytes, list[Transfer]]:
    """What Alice is paid in each block, by its hash."""
    watch = Watching([subject.asset], [subject.alice])
    return {
        block.header.hash: subject.adapter.transfers(block, watch)
        for block in await read(subject.adapter, first, last)
    }


async def top(subject: Subject) -> int:
    return len(await subject.hashes()) - 1


def is_linked(headers: Sequence[Header]) -> bool:
    return all(
        (above.height, above.parent) == (below.height + 1, below.hash)
        for below, above in pairwise(headers)
    )


async def test_a_network_is_known_by_what_its_node_says_of_it(subject: Subject) -> None:
    identity = await subject.adapter.connect()
    assert identity.startswith(f"{subject.family}:")
    assert subject.adapter.codec.family == subject.family
    async with subject.connected(Interrupted()) as again:
        assert await again.connect() == identity


async def test_the_tip_is_the_node_s_newest_block(subject: Subject) -> None:
    hashes, tip = await subject.hashes(), await subject.adapter.tip()
    assert (tip.height, tip.hash, tip.parent) == (len(hashes) - 1, hashes[-1], hashes[-2])
    assert "@" not in tip.source
    assert tip.source.startswith("http://127.0.0.1:")
    assert (tip.work is not None) is subject.worked
    assert tip.work is None or tip.work > 0
    await subject.mine()
    assert (await subject.adapter.tip()).parent == tip.hash


async def test_headers_come_by_height_in_the_order_asked(subject: Subject) -> None:
    hashes = await subject.hashes()
    last = len(hashes) - 1
    heights = [last, 0, last + 1, last - 3]
    found = await subject.adapter.headers(heights)
    assert [header and header.hash for header in found] == [
        hashes[last], hashes[0], None, hashes[last - 3],
    ]  # fmt: skip
    assert [header and header.height for header in found] == [last, 0, None, last - 3]
    assert await subject.adapter.header(last) == found[0]
    assert await subject.adapter.header(last + 100) is None
    assert await subject.adapter.headers([]) == []


async def test_blocks_come_in_order_and_link(subject: Subject) -> None:
    hashes = await subject.hashes()
    last = len(hashes) - 1
    blocks = await read(subject.adapter, 1, last)
    headers = [block.header for block in blocks]
    assert [header.hash for header in headers] == hashes[1:]
    assert is_linked(headers)
    assert headers[-FIRST:] == await subject.adapter.headers(range(last - FIRST + 1, last + 1))
    assert all(block.size > 0 for block in blocks)
    assert [b.header.hash for b in await read(subject.adapter, last, last)] == hashes[-1:]


async def test_a_block_that_is_not_there_yet_is_unavailable(subject: Subject) -> None:
    last = await top(subject)
    with pytest.raises(Unavailable):
        await read(subject.adapter, last - 1, last + 1)
    await subject.mine()
    assert len(await read(subject.adapter, last - 1, last + 1)) == 3


@pytest.mark.pitfall("P21", "P89")
async def test_each_payment_is_a_transfer_with_a_number_of_its_own(subject: Subject) -> None:
    tx = await subject.pay(UNITS, times=3)
    await subject.mine()
    height = await top(subject)
    (found,) = (await paid(subject, height, height)).values()
    assert [(t.tx, t.asset, t.recipient, t.units, t.odd, t.maturity) for t in found] == [
        (tx, subject.asset, subject.alice, UNITS, False, 0)
    ] * 3
    assert len({t.ordinal for t in found}) == 3
    (block,) = await read(subject.adapter, height, height)
    nobody = Watching([subject.asset], [b"\0" * len(subject.alice)])
    assert subject.adapter.transfers(block, nobody) == []
    assert subject.adapter.transfers(block, Watching([b"another"], [subject.alice])) == []


async def test_what_is_final_lies_on_the_chain_and_below_the_tip(subject: Subject) -> None:
    final = await subject.adapter.finalized()
    if not subject.final:
        assert final is None
        return
    hashes = await subject.hashes()
    assert final is not None
    assert hashes[final.height] == final.hash
    await subject.mine(FIRST)
    later = await subject.adapter.finalized()
    assert later is not None
    assert final.height < later.height < await top(subject)


@pytest.mark.pitfall("P47")
async def test_another_branch_is_read_as_it_is(subject: Subject) -> None:
    before = await subject.hashes()
    payments = [t.tx for each in (await paid(subject, 1, len(before) - 1)).values() for t in each]
    await subject.reorganise(DEPTH)
    after = await subject.hashes()
    common = len(before) - DEPTH
    assert before[:common] == after[:common]
    found = await subject.adapter.headers(range(common - 1, len(after)))
    assert [header and header.hash for header in found] == after[common - 1 :]
    assert (await subject.adapter.tip()).hash == after[-1]
    now = await paid(subject, 1, len(after) - 1)
    assert list(now) == after[1:]
    assert sorted(t.tx for each in now.values() for t in each) == sorted(payments)


@pytest.mark.pitfall("P57", "P61", "P76")
async def test_a_node_that_lags_is_late_and_nothing_else(subject: Subject) -> None:
    hashes = await subject.hashes()
    last = len(hashes) - 1
    with subject.lagging(2):
        tip = await subject.adapter.tip()
        assert (tip.height, tip.hash) == (last - 2, hashes[-3])
        assert await subject.adapter.headers([last, last - 2]) == [None, tip]
        with pytest.raises(Unavailable):
            await read(subject.adapter, last - 3, last)
        blocks = await read(subject.adapter, last - 3, last - 2)
        assert [block.header.hash for block in blocks] == hashes[-4:-2]
    assert (await subject.adapter.tip()).hash == hashes[-1]


@pytest.mark.pitfall("P57", "P122")
async def test_a_reorganisation_between_two_requests_gives_no_half_of_each(
    subject: Subject,
) -> None:
    """Whatever is answered is of one branch, or nothing is."""
    watch, whole = Watching([subject.asset], [subject.alice]), 0
    for after in range(ROUNDS):
        before = await subject.hashes()
        last = len(before) - 1
        first = last - SPAN + 1
        known = await paid(subject, first, last)
        transport = Interrupted()
        async with subject.connected(transport) as adapter:
            with transport.interrupted(after, lambda: subject.reorganise(DEPTH)):
                try:
                    found = await read(adapter, first, last)
                    tip = await adapter.tip()
                except Unavailable:
                    continue
        now = await subject.hashes()
        known |= await paid(subject, first, last)
        assert is_linked([block.header for block in found])
        branches = [before[first:], now[first : last + 1]]
        assert [block.header.hash for block in found] in branches
        for block in found:
            assert subject.adapter.transfers(block, watch) == known[block.header.hash]
        assert tip.hash in (before[-1], now[-1])
        whole += 1
    assert 0 < whole < ROUNDS


async def test_a_node_that_goes_away_is_unavailable(opening: Open) -> None:
    async with opening() as subject:
        await subject.mine(FIRST)
        await subject.adapter.connect()
    try:
        transfer = Transfer(bytes(32), NATIVE, subject.alice, 0, 1, None)
        proof = partial(subject.adapter.proof, 1, bytes(32), transfer)
        look = partial(subject.adapter.transaction, bytes(32))
        for ask in (subject.adapter.tip, subject.adapter.connect, proof, look):
            with pytest.raises(Unavailable):
                await ask()
        with pytest.raises(Unavailable):
            await read(subject.adapter, 1, 2)
    finally:
        await subject.adapter.close()


@pytest.mark.pitfall("P43", "P75", "P93", "P103")
async def test_what_the_codec_writes_it_reads(subject: Subject) -> None:
    codec = subject.adapter.codec
    assert codec.parse_address(codec.format_address(subject.alice)) == subject.alice
    value = (await subject.hashes())[-1]
    assert codec.parse_hash(codec.format_hash(value)) == value
    assert codec.format_asset(NATIVE) == "native"
    if subject.asset != NATIVE:
        assert codec.parse_asset(codec.format_asset(subject.asset)) == subject.asset
    text = codec.format_address(subject.alice)
    for wrong in (*subject.foreign, "", " ", text[:-1], text + "1", text[:-1] + "ö", "x" * 999):
        with pytest.raises(Refused):
            codec.parse_address(wrong)
    for wrong in ("", "0x", codec.format_hash(value)[:-1], "native", "g" * 64):
        with pytest.raises(Refused):
            codec.parse_hash(wrong)
    for wrong in ("", "native", "ö"):
        with pytest.raises(Refused):
            codec.parse_asset(wrong)


async def test_a_transaction_is_found_where_it_is(subject: Subject) -> None:
    adapter = subject.adapter
    tx = await subject.pay(UNITS)
    waiting = await adapter.transaction(tx)
    assert waiting is not None
    assert (waiting.height, waiting.block, waiting.trouble) == (None, None, None)
    await subject.mine()
    for _ in range(2):
        hashes, found = await subject.hashes(), await adapter.transaction(tx)
        assert found is not None
        assert found.height is not None
        assert (found.block, found.executed, found.trouble) == (hashes[found.height], True, None)
        (block,) = await read(adapter, found.height, found.height)
        paid = adapter.transfers(block, Watching(list(found.assets), [subject.alice]))
        assert [(t.asset, t.units) for t in paid if t.tx == tx] == [(subject.asset, UNITS)]
        await subject.reorganise(2)


async def test_a_transaction_that_there_is_not_is_not_found(subject: Subject) -> None:
    if subject.finds_all:
        assert await subject.adapter.transaction(b"\7" * 32) is None
    else:
        with pytest.raises(Refused, match="txindex"):
            await subject.adapter.transaction(b"\7" * 32)


async def test_what_is_no_token_is_refused(subject: Subject) -> None:
    with pytest.raises(Refused):
        await subject.adapter.token(subject.alice[:20])


@pytest.mark.pitfall("P79")
async def test_a_stranger_can_check_that_a_transfer_is_in_its_block(subject: Subject) -> None:
    adapter, hashes, amounts = subject.adapter, await subject.hashes(), set()
    found = await paid(subject, 1, len(hashes) - 1)
    for block, transfer in [(block, each) for block, some in found.items() for each in some]:
        proof = await adapter.proof(hashes.index(block), block, transfer)
        verify(shown(adapter.codec, hashes.index(block), block, transfer, proof))
        amounts.add(proof.amount)
    assert amounts == {subject.family != "tron"}  # a token, there


async def test_what_no_node_has_is_not_proved(subject: Subject) -> None:
    hashes = await subject.hashes()
    (block, [transfer, *_]) = next(
        each for each in (await paid(subject, 1, len(hashes) - 1)).items() if each[1]
    )
    height = hashes.index(block)
    another = (height - 1, hashes[height - 1])
    for at, name in ((height, bytes(31) + b"\1"), (len(hashes) + 9, b"\7" * 32), another):
        with pytest.raises(Refused, match="no node gives"):
            await subject.adapter.proof(at, name, transfer)


async def test_balances_agree_or_can_t_be_asked(subject: Subject) -> None:
    await subject.pay(UNITS, times=2)
    await subject.mine()
    height = await top(subject)
    (block,) = await read(subject.adapter, height, height)
    holdings = [Holding(block, subject.asset, subject.alice)]
    if subject.family == "evm":
        assert await subject.adapter.balances_agree(holdings) == [True]
    else:
        with pytest.raises(Refused):
            await subject.adapter.balances_agree(holdings)
