"""The API on its socket: TLS, an address that is taken, and an end that loses no request."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from indexer import config
from indexer.api.context import Context
from indexer.api.server import Server
from indexer.model import Refused
from tests.api.world import World

ANSWER_SECONDS: Final = 5.0  # that a test waits for one
SLOW_SECONDS: Final = 0.5  # that a request is in hand while the server stops


def on(world: World, **api: Any) -> Context:
    """The world's context with other `[api]` settings."""
    settings = world.context.settings.model_copy(update={"api": config.Api(**api)})
    return dataclasses.replace(world.context, settings=settings)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "depositd test")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_it_listens_where_the_settings_say(
    world: World, session: aiohttp.ClientSession
) -> None:
    listen = f"127.0.0.1:{unused_port()}"
    server = Server(on(world, listen=listen))
    assert await server.start() == f"http://{listen}"
    async with session.get(f"http://{listen}/readyz") as response:
        assert response.status == 200
    await server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await session.get(f"http://{listen}/readyz")


async def test_an_address_that_is_taken_is_refused_in_a_sentence(world: World) -> None:
    listen = f"127.0.0.1:{unused_port()}"
    first, second = Server(on(world, listen=listen)), Server(on(world, listen=listen))
    await first.start()
    with pytest.raises(Refused, match=listen):
        await second.start()
    await first.stop()


async def test_tls_with_the_configured_pair(
    world: World, session: aiohttp.ClientSession, pair: tuple[Path, Path]
) -> None:
    cert, key = pair
    server = Server(on(world, listen="127.0.0.1:0", tls_cert=cert, tls_key=key))
    url = await server.start()
    assert url.startswith("https://127.0.0.1:")
    trusted = ssl.create_default_context(cafile=cert)
    async with session.get(f"{url}/readyz", ssl=trusted) as response:
        assert response.status == 200
    with pytest.raises(aiohttp.ClientError):
        await session.get(url.replace("https", "http") + "/readyz")
    await server.stop()


async def test_a_pair_that_is_none_is_refused_in_a_sentence(
    world: World, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = pair
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    for bad_cert, bad_key in ((cert, cert), (wrong, key), (cert, wrong)):
        with pytest.raises(Refused, match="tls_cert"):
            Server(on(world, tls_cert=bad_cert, tls_key=bad_key))


async def test_what_is_no_http_is_400_and_no_word_of_it_is_logged(
    world: World, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(on(world, listen="127.0.0.1:0"))
    port = int((await server.start()).rpartition(":")[2])
    for raw in (b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nX-Api-Key: dk_%s\r\n\r\n" % (b"x" * 9000)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        answer = await asyncio.wait_for(reader.read(), ANSWER_SECONDS)
        head, _, said = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 400 ")
        assert b"Content-Type: application/json" in head
        assert json.loads(said)["code"] == "BAD_REQUEST"
        writer.close()
        await writer.wait_closed()
    await server.stop()
    logged = caplog.text + "".join(capsys.readouterr())
    assert "dk_" not in logged
    assert "NONSENSE" not in logged


async def test_a_request_in_hand_is_answered_before_the_server_ends(
    world: World, session: aiohttp.ClientSession
) -> None:
    begun = asyncio.Event()
    routes = web.RouteTableDef()

    @routes.get("/slow")
    async def slow(_: web.Request) -> web.Response:
        begun.set()
        await asyncio.sleep(SLOW_SECONDS)
        return web.Response(text="done")

    server = Server(on(world, listen="127.0.0.1:0"), [routes])
    url = await server.start()
    asking = asyncio.create_task(session.get(f"{url}/slow"))
    await begun.wait()
    await server.stop()
    async with await asking as response:
        assert await response.text() == "done"
