"""Standard Webhooks signatures: make a secret, sign an attempt, verify what arrived.

Source: the Standard Webhooks specification 1.0.0, symmetric scheme `v1`. HMAC-SHA256 over
`id.timestamp.body`, the body as the raw bytes that travel.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets as randomness
from collections.abc import Mapping, Sequence
from typing import Final

from indexer.model import Refused

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32  # of a secret made here
SECRET_RANGE: Final = range(24, 65)  # bytes the specification allows
TOLERANCE_SECONDS: Final = 300  # of the attempt's timestamp, both ways; the public libraries' value

_UNIX_SECONDS = re.compile(r"\d{1,12}", re.ASCII)


class Unverified(Refused):
    """A request is not the sender's, not whole or not fresh. The message is the exact reason."""


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
    return " ".join("v1," + base64.b64encode(_mac(key, signed)).decode() for key in secrets)


def verify(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Return if the request was signed with one of `secrets` within the tolerance of `now`.

    `now` is Unix seconds. Raises Unverified with the exact reason otherwise.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    missing = [name for name in names if not lowered.get(name)]
    if missing:
        raise Unverified(f"header missing: {', '.join(missing)}")
    webhook_id, timestamp, signatures = (lowered[name] for name in names)
    if _UNIX_SECONDS.fullmatch(timestamp) is None:
        raise Unverified("webhook-timestamp is not whole Unix seconds")
    age = now - int(timestamp)
    if abs(age) > TOLERANCE_SECONDS:
        side = "old" if age > 0 else "new"
        raise Unverified(
            f"webhook-timestamp is {abs(age):.0f} s too {side}; {TOLERANCE_SECONDS} s are tolerated"
        )
    signed = b"%b.%b.%b" % (webhook_id.encode(), timestamp.encode(), body)
    _match([_mac(key, signed) for key in secrets], signatures)


def _match(expected: Sequence[bytes], signatures: str) -> None:
    tokens = [token.partition(",") for token in signatures.split(" ")]
    known = [value for version, _, value in tokens if version == "v1"]
    if not known:
        raise Unverified("webhook-signature holds no v1 signature")
    for value in known:
        try:
            given = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            continue  # another token may still be good
        if any(hmac.compare_digest(given, wanted) for wanted in expected):
            return
    raise Unverified("no signature matches: another secret, or the body was changed on its way")


def _mac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)
