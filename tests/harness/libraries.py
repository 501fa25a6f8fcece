"""The public Standard Webhooks libraries, used as receivers use them: Python and JavaScript."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

NODE: Final = Path(__file__).parents[1] / "node"
NODE_SECONDS: Final = 60.0  # for a run of node


@dataclass(frozen=True)
class Signed:
    """A request as it came, its headers' names in lower case."""

    headers: Mapping[str, str]
    body: bytes


def python_verifies(secret: str, request: Signed) -> bool:
    try:
        Webhook(secret).verify(request.body, dict(request.headers), json_parse=False)
    except WebhookVerificationError:
        return False
    return True


async def javascript_verdicts(checks: Sequence[tuple[str, Signed]]) -> list[dict[str, Any]]:
    """For each (secret, request) `{"event": …}` or `{"error": …}`, as verify.js says."""
    lines = [
        json.dumps(
            {
                "secret": secret,
                "headers": dict(request.headers),
                "body": base64.b64encode(request.body).decode(),
            }
        )
        for secret, request in checks
    ]
    out = await run_node(NODE / "verify.js", "\n".join(lines))
    return [json.loads(line) for line in out.rstrip("\n").split("\n")]  # U+2028 ends none


async def run_node(script: Path, given: str, **environ: str) -> str:
    """What a script writes, having read `given`; it must succeed."""
    node = shutil.which("node")
    if node is None or not (NODE / "node_modules" / "standardwebhooks").is_dir():
        pytest.skip("standardwebhooks for JavaScript is not installed: `make node`")
    process = await asyncio.create_subprocess_exec(
        node, str(script), stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environ or None
    )
    async with asyncio.timeout(NODE_SECONDS):
        out, err = await process.communicate(given.encode())
    assert process.returncode == 0, err.decode()
    return out.decode()
