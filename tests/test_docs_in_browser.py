"""`/docs` in a real browser: it opens without the world around, lists the routes and runs calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from callbacks.api import ROUTES
from indexer.api.server import Server
from tests.api.test_api_server import on
from tests.api.world import ADMIN_KEY, World, address
from tests.harness.browser import Page, browser, chromium

SHOWN: Final = """
    [...document.querySelectorAll("details")]
        .filter(each => each.offsetParent !== null)
        .map(each => [".method", ".path"].map(part => each.querySelector(part).textContent))
        .map(([method, path]) => `${method} ${path}`)
"""


@pytest.fixture
async def world(pool: asyncpg.Pool) -> AsyncIterator[World]:
    chromium()
    world = await World.begin(pool)
    yield world
    await world.close()


@pytest.fixture
async def url(world: World) -> AsyncIterator[str]:
    server = Server(on(world, listen="127.0.0.1:0", admin_key=ADMIN_KEY), ROUTES)
    yield await server.start()
    await server.stop()


@pytest.fixture
async def page(url: str, tmp_path: Path) -> AsyncIterator[Page]:
    async with browser(tmp_path) as page:
        await page.open(f"{url}/docs")
        await page.until("document.querySelectorAll('details').length")
        yield page
        assert all(asked.startswith(f"{url}/") for asked in page.requests)


async def send(page: Page, operation: str, body: Any = None, **fields: str) -> tuple[int, Any]:
    """What the page shows of the answer, after its form was filled in."""
    form = f"document.getElementById('{operation}')"
    for name, value in fields.items():
        await page.run(f"{form}.querySelector('input[name={name}]').value = {json.dumps(value)}")
    if body is not None:
        await page.run(f"{form}.querySelector('textarea').value = {json.dumps(json.dumps(body))}")
    await page.run(f"{form}.open = true")
    await page.run(f"{form}.querySelector('button').click()")
    text = await page.until(f"/^\\d/.exec({form}.querySelector('.output').textContent)?.input")
    status, _, rest = text.partition("\n")
    said, _, line = rest.rpartition("\n\n")
    assert line.startswith('curl -H "X-Api-Key: $KEY"')
    assert ADMIN_KEY not in text
    return int(status.split(" ")[0]), json.loads(said) if said else None


async def test_the_page_opens_lists_the_routes_and_runs_calls(world: World, page: Page) -> None:
    document = world.documented.document
    operations = [
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    ]
    assert sorted(await page.run(SHOWN)) == sorted(operations)
    assert await page.run("document.title") == "depositd API"
    status, refused = await send(page, "listCoins")
    assert (status, refused["code"]) == (401, "UNAUTHENTICATED")

    await page.run(f"document.getElementById('key').value = '{ADMIN_KEY}'")
    for operation, path, fields in (
        ("listCoins", "/v1/coins", {}),
        ("getCoin", "/v1/coins/eth", {"coin": "eth"}),
    ):
        assert await send(page, operation, **fields) == (200, (await world.admin.get(path)).body)
    body = {"network": "ethereum", "addresses": [{"address": address(1), "reference": "naïve &c"}]}
    made = await send(page, "register", body, account="alice")
    assert made == (201, {"created": 1, "existing": 0, "coveredFrom": 1001})
    status, found = await send(page, "listAddresses", reference="naïve &c")
    assert (status, [each["address"] for each in found["items"]]) == (200, [address(1)])
    gone = {"network": "ethereum", "address": address(1), "account": "alice"}
    assert await send(page, "deleteAddress", **gone) == (204, None)
    assert not [said for said in page.complaints if "exceptionDetails" in said or "Policy" in said]


async def test_it_is_filtered_opened_by_keyboard_and_at_home_in_the_dark(page: Page) -> None:
    await page.run("document.getElementById('filter').focus()")
    for letter in "wallets post":
        await page.press(letter, letter)
    listed = "POST /v1/wallets", "POST /v1/wallets/{id}/addresses"
    assert tuple(await page.run(SHOWN)) == listed
    for _ in range(2):  # past the key to the first operation
        await page.press("Tab")
    await page.press("Enter", "\r")
    assert await page.run("document.getElementById('createWallet').open") is True
    await page.run("location.hash = 'createEndpoint'")
    await page.until("document.getElementById('createEndpoint').open")

    look = "getComputedStyle(document.body)"
    colours = []
    for scheme in ("light", "dark"):
        scheme_set = [{"name": "prefers-color-scheme", "value": scheme}]
        await page.ask("Emulation.setEmulatedMedia", features=scheme_set)
        colours.append([await page.run(f"{look}.{part}") for part in ("backgroundColor", "color")])
    (paper, ink), (night, chalk) = colours
    assert (paper, ink, chalk) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)", "rgb(255, 255, 255)")
    assert night != paper
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    await page.ask("Emulation.setDeviceMetricsOverride", **size)
    assert await page.run("document.documentElement.scrollWidth") <= 360
