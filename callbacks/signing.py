"""Standard Webhooks signatures: make a secret, read one, sign an attempt.

Source: the Standard Webhooks specification 1.0.0, symmetric scheme `v1`. HMAC-SHA256 over
`id.timestamp.body`, the body as the raw bytes that travel.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets as randomness
from collections.abc import Sequence
from typing import Final

from indexer.model import Refused

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32  # of a secret made here
SECRET_RANGE: Final = range(24, 65)  # bytes the specification allows


def new_secret() -> str:
    """A fresh secret in the form that a receiver configures: `whsec_` + base64 of 32 bytes."""
    return PREFIX + base64.b64encode(randomness.token_bytes(SECRET_BYTES)).decode()


def decode_secret(text: str) -> bytes:
    """The key bytes of a `whsec_…` text, padded or not. Refused where it is none."""
    encoded = text.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("the secret is not base64: expected whsec_ and base64 text") from None
    if len(key) not in SECRET_RANGE:
        raise Refused(
            f"the secret has {len(key)} bytes; {SECRET_RANGE[0]} to {SECRET_RANGE[-1]} are allowed"
        )
    return key


def sign(secrets: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1,…` token per secret, in their order.

    `timestamp` is Unix seconds of this attempt, as sent in `webhook-timestamp`.
    """
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return " ".join("v1," + base64.b64encode(mac(key, signed)).decode() for key in secrets)


def mac(key: bytes, signed: bytes) -> bytes:
    """HMAC-SHA256, 32 bytes."""
    return hmac.digest(key, signed, hashlib.sha256)
