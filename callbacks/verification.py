"""Whether a request is the sender's, whole and fresh; and if not, exactly why.

Accepts what the public Standard Webhooks libraries accept, but for two liberties of some of them: a
timestamp must be whole seconds, and a header that came twice is none.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import orjson

from callbacks.signing import PREFIX, mac
from indexer.model import Refused

TOLERANCE_SECONDS: Final = 300  # of the attempt's timestamp, both ways; the public libraries' value
HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")

_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)
_MILLISECONDS: Final = re.compile(r"\d{13}", re.ASCII)
_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class Unverified(Refused):
    """A request is not the sender's, not whole or not fresh. The message is the exact reason."""


def verify(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: float) -> int:
    """Which of `secrets`, from 0, signed the request within the tolerance of `now` (Unix seconds).

    Raises Unverified with the exact reason where none did.
    """
    webhook_id, timestamp, signatures = _required(headers)
    _check_age(timestamp, now)
    texts = _v1(signatures)
    # One that can't be read may stand beside one that is good.
    given = [signature for signature in map(_decoded, texts) if signature]
    prefix = f"{webhook_id}.{timestamp}.".encode("utf-8", "surrogateescape")
    for number, key in enumerate(secrets):
        expected = mac(key, prefix + body)
        if any(hmac.compare_digest(expected, signature) for signature in given):
            return number
    if all(_HEXADECIMAL.fullmatch(text) for text in texts):
        raise Unverified("the signature is hexadecimal; it must be base64")
    if not given:
        raise Unverified("no v1 signature in webhook-signature is base64")
    for sentence, keys, content in _mistakes(secrets, prefix, body):
        if any(mac(key, content) in given for key in keys):
            raise Unverified(sentence)
    whose = "another secret" if len(secrets) == 1 else f"none of the {len(secrets)} secrets"
    raise Unverified(
        f"the signature was made with {whose}, or id, timestamp or body were changed on the way"
    )


def _required(headers: Mapping[str, str]) -> list[str]:
    """The values of HEADERS, each there once."""
    values: dict[str, list[str]] = defaultdict(list)
    for name, value in headers.items():  # of a multidict: each that came
        if value:
            values[name.lower()].append(value)
    if missing := [name for name in HEADERS if not values[name]]:
        raise Unverified(f"header missing: {', '.join(missing)}")
    for name in HEADERS:
        if len(values[name]) > 1:
            raise Unverified(f"{name} came {len(values[name])} times: something adds it on the way")
    return [values[name][0] for name in HEADERS]


def _check_age(timestamp: str, now: float) -> None:
    if _MILLISECONDS.fullmatch(timestamp):
        raise Unverified("webhook-timestamp is in milliseconds; it must be whole Unix seconds")
    if _SECONDS.fullmatch(timestamp) is None:
        raise Unverified("webhook-timestamp is not whole Unix seconds")
    age = now - int(timestamp)
    if abs(age) > TOLERANCE_SECONDS:
        where = "old" if age > 0 else "ahead of this clock"
        raise Unverified(
            f"webhook-timestamp is {abs(age):.0f} s {where}; {TOLERANCE_SECONDS} s are tolerated"
        )


def _v1(signatures: str) -> list[str]:
    tokens = [token.partition(",") for token in signatures.split(" ") if token]
    found = [text for version, _, text in tokens if version == "v1"]
    if not found:
        versions = ", ".join(sorted({version for version, _, _ in tokens}))
        raise Unverified(f"webhook-signature holds no v1 signature, only {versions or 'blanks'}")
    return found


def _decoded(text: str) -> bytes:
    """Empty where it is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _mistakes(
    secrets: Sequence[bytes], prefix: bytes, body: bytes
) -> Iterator[tuple[str, Sequence[bytes], bytes]]:
    """What is often signed in place of `prefix + body`, and with what keys: a sentence for each."""
    texts = [text for key in secrets for text in _texts(key)]
    yield (
        "the secret was used as text: what follows whsec_ is base64 of the key",
        texts,
        (prefix + body),
    )
    yield "the body alone was signed; it must be id.timestamp.body", secrets, body
    changed = "the body was changed on the way: the signature is that of the same "
    yield f"{changed}without blanks at its ends", secrets, prefix + body.strip()
    try:
        plain = orjson.dumps(orjson.loads(body))
    except orjson.JSONDecodeError:
        return
    yield f"{changed}JSON, written without blanks", secrets, prefix + plain


def _texts(key: bytes) -> Iterator[bytes]:
    """A secret in the forms in which it is written down."""
    padded = base64.b64encode(key)
    for text in (padded, padded.rstrip(b"=")):
        yield text
        yield PREFIX.encode() + text
