"""Where a POST may not go, whatever DNS, redirects or answers say: it is not sent there.

No packet leaves loopback even when the guard is broken: a connect that it allows beyond ends where
its socket would be made (`Tripwire`).
"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from aiohappyeyeballs import AddrInfoType
from yarl import URL

from callbacks import resolver as resolver_module
from callbacks.guard import check_url
from callbacks.resolver import MAX_ANSWERS, Resolver, check_answers
from callbacks.sender import Sender
from indexer.config import Callbacks
from indexer.model import Refused
from tests.harness.names import HOST, Names, Tripwire
from tests.harness.raw import OK, answer, receiving
from tests.wire.sending import BODY, RULES, STRICT, came_of, send

PLAIN = Callbacks(allow_http=True)
PUBLIC = URL("https://hooks.example/")
METADATA = "169.254.169.254"


class Credulous(Resolver):
    """Believes every answer: what is left is the check of each socket's address."""

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        return self._look_up(host, port)


async def test_a_public_answer_is_connected_to() -> None:
    assert came_of(await send(PUBLIC, rules=STRICT, names=Names(["8.8.8.8"]))) == (None, "connect")
    sockets = Tripwire(STRICT)
    names = Resolver(STRICT, Names(["2600::1", "8.8.8.8"]))
    async with Sender(STRICT, 5.0, resolver=names, sockets=sockets) as sender:
        await sender.post(PUBLIC, {}, BODY)
    assert sorted(sockets.allowed) == ["2600::1", "8.8.8.8"]


@pytest.mark.case(16)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_never_followed(status: int) -> None:
    sockets = Tripwire(RULES)
    async with receiving(answer(OK)) as target:
        for location in (f"http://{METADATA}/latest/meta-data", target.url, "//[::1]/"):
            head = f"HTTP/1.1 {status} Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
            async with receiving(answer(head.encode())) as raw:
                async with Sender(RULES, 5.0, sockets=sockets) as sender:
                    found = await sender.post(raw.url, {}, BODY)
                assert came_of(found) == (status, "status")
    assert target.connections == 0
    assert sockets.allowed == ["127.0.0.1"] * 3


@pytest.mark.case(17)
async def test_a_name_that_was_public_when_registered_is_judged_again_at_each_connect() -> None:
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    await check_answers(PUBLIC, STRICT, names)
    found = await send(PUBLIC, rules=STRICT, names=names)
    assert (came_of(found), names.asked) == ((None, "blocked"), 2)


@pytest.mark.case(17)
async def test_a_name_that_turns_between_two_attempts() -> None:
    """TTL 0: the receiver closes each connection, and the next lookup says something else."""
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    sockets = Tripwire(RULES)
    names = Resolver(RULES, Names(["127.0.0.1"], [METADATA], ["127.0.0.1"]))
    sender = Sender(RULES, 5.0, resolver=names, sockets=sockets)
    async with receiving(answer(closing)) as raw, sender:
        found = [came_of(await sender.post(raw.at(HOST), {}, BODY)) for _ in range(3)]
    assert found == [(200, None), (None, "blocked"), (200, None)]
    assert sockets.allowed == ["127.0.0.1"] * 2


@pytest.mark.case(17)
@pytest.mark.parametrize(
    "address", ["127.0.0.1", METADATA, "10.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1"]
)
async def test_the_socket_guard_alone_stops_what_a_resolver_lets_through(address: str) -> None:
    sockets = Tripwire(PLAIN)
    async with receiving(answer(OK)) as raw:
        names = Credulous(PLAIN, Names([address]))
        async with Sender(PLAIN, 5.0, resolver=names, sockets=sockets) as sender:
            assert came_of(await sender.post(raw.at(HOST), {}, BODY)) == (None, "blocked")
            literal = URL(
                f"http://[{address}]:{raw.port}/"
                if ":" in address
                else f"http://{address}:{raw.port}/"
            )
            assert came_of(await sender.post(literal, {}, BODY)) == (None, "blocked")
    assert (raw.connections, sockets.allowed) == (0, [])


@pytest.mark.case(17)
async def test_the_socket_guard_judges_each_address_of_a_host() -> None:
    """Happy eyeballs: the one that is allowed is tried, the others are not."""
    sockets = Tripwire(STRICT)
    names = Credulous(STRICT, Names(["10.0.0.1", "8.8.8.8", "fd00::1"]))
    async with Sender(STRICT, 5.0, resolver=names, sockets=sockets) as sender:
        assert (await sender.post(PUBLIC, {}, BODY)).error in ("blocked", "connect")
    assert sockets.allowed == ["8.8.8.8"]


@pytest.mark.case(18)
@pytest.mark.parametrize(
    "found",
    [
        ["8.8.8.8", "10.0.0.1"],
        ["10.0.0.1", "8.8.8.8"],
        ["8.8.8.8"] * 20 + ["192.168.1.1"],
        ["127.0.0.1"],
        ["fd00::1"],
        ["::ffff:127.0.0.1"],
        ["2600::1", "fe80::1"],
        [METADATA],
    ],
    ids=range(8),
)
async def test_one_forbidden_answer_condemns_the_host(found: list[str]) -> None:
    """A CNAME to an internal name looks the same: its addresses are the answer."""
    sockets = Tripwire(STRICT)
    names = Resolver(STRICT, Names(found))
    async with Sender(STRICT, 5.0, resolver=names, sockets=sockets) as sender:
        assert came_of(await sender.post(PUBLIC, {}, BODY)) == (None, "blocked")
    assert sockets.allowed == []
    with pytest.raises(Refused, match="may not go"):
        await check_answers(PUBLIC, STRICT, Names(found))


@pytest.mark.case(18)
async def test_a_host_without_answers() -> None:
    def none() -> list[str]:
        raise OSError("Name or service not known")

    for names in (Names([]), Names(none)):
        assert came_of(await send(PUBLIC, rules=STRICT, names=names)) == (None, "dns")
        await check_answers(PUBLIC, STRICT, names)  # it may get some later


@pytest.mark.case(18)
async def test_ten_thousand_answers_are_not_all_looked_at() -> None:
    names = Resolver(STRICT, Names(["8.8.8.8"] * 10_000))
    assert len(await names.resolve(HOST, 443)) == MAX_ANSWERS


@pytest.mark.case(18)
async def test_lookups_that_hang_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """More attempts at hanging hosts than lookups may be under way, and others beside them."""
    monkeypatch.setattr(resolver_module, "DNS_SECONDS", 0.4)
    release = threading.Event()

    def look_up(host: str, port: int) -> list[AddrInfoType]:
        if host.startswith("hangs"):
            release.wait(10)
        return Names(["127.0.0.1"])(host, port)

    names = Resolver(RULES, look_up)
    try:
        async with receiving(answer(OK)) as raw, Sender(RULES, 5.0, resolver=names) as sender:
            urls = [raw.at(f"hangs{n % 40}.example") for n in range(resolver_module.LOOKUPS * 2)]
            hanging = [asyncio.create_task(sender.post(url, {}, BODY)) for url in urls]
            await asyncio.sleep(0.05)
            start = time.monotonic()
            found = await sender.post(raw.at(HOST), {}, BODY)
            assert (came_of(found), time.monotonic() - start < 0.2) == ((200, None), True)
            assert {came_of(each) for each in await asyncio.gather(*hanging)} == {(None, "dns")}
    finally:
        release.set()


@pytest.mark.case(23, 24)
async def test_a_blocked_target_tells_nothing_of_itself() -> None:
    """Whether something listens there, what it says, how long it takes: no packet asks it."""
    async with receiving(answer(b"HTTP/1.1 200 OK\r\n\r\nthe secret of a neighbour")) as raw:
        opened, closed = raw.url, URL("http://127.0.0.1:1/")
        named = Names(["127.0.0.1"])
        start = time.monotonic()
        found = [
            await send(url, rules=PLAIN, names=named) for url in (opened, closed, raw.at(HOST))
        ]
        assert time.monotonic() - start < 1
    assert raw.connections == 0
    for each in found:
        assert came_of(each) == (None, "blocked")
        assert (each.address, each.connect_ms, each.first_byte_ms, each.head) == (None,) * 4


@pytest.mark.case(24)
async def test_a_forbidden_target_is_refused_in_the_same_words_whatever_it_is() -> None:
    said = set()
    for host in ("127.0.0.1", "10.0.0.1", METADATA, "[::1]", "[fd00::1]"):
        with pytest.raises(Refused) as caught:
            check_url(f"https://{host}/", STRICT)
        said.add(str(caught.value))
    for address in ("127.0.0.1", "10.0.0.1", METADATA, "::1"):
        with pytest.raises(Refused) as caught:
            await check_answers(PUBLIC, STRICT, Names([address]))
        said.add(str(caught.value))
    assert len(said) == 1


@pytest.mark.case(23)
async def test_an_operator_can_have_no_answer_kept() -> None:
    rules = Callbacks(allow_private=True, allow_http=True, keep_answers=False)
    async with receiving(answer(OK)) as raw:
        found = await send(raw.url, rules=rules)
    assert (came_of(found), found.head) == ((200, None), None)
