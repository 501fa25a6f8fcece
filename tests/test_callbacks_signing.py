"""Signatures agree with the specification's vector and with the public library, both ways."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from callbacks.signing import Unverified, decode_secret, new_secret, sign, verify
from indexer.model import Refused

VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIME = 1614265330
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def signed(key: bytes, timestamp: int = VECTOR_TIME, body: bytes = VECTOR_BODY) -> dict[str, str]:
    return {
        "webhook-id": VECTOR_ID,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([key], VECTOR_ID, timestamp, body),
    }


def test_the_specifications_vector() -> None:
    assert (
        sign([decode_secret(VECTOR_SECRET)], VECTOR_ID, VECTOR_TIME, VECTOR_BODY)
        == VECTOR_SIGNATURE
    )


def test_a_new_secret_has_32_random_bytes() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 32


@given(body=st.text(max_size=200), padded=st.booleans())
def test_the_public_library_verifies_what_is_signed_here(body: str, padded: bool) -> None:
    secret = new_secret() if padded else new_secret().rstrip("=")
    now = int(time.time())
    raw = body.encode()
    headers = signed(decode_secret(secret), now, raw)
    Webhook(secret).verify(raw, headers, json_parse=False)


@given(body=st.text(max_size=200))
def test_what_the_public_library_signs_is_verified_here(body: str) -> None:
    secret = new_secret()
    when = datetime.now(UTC)
    headers = {
        "Webhook-Id": "evt_1",
        "Webhook-Timestamp": str(int(when.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("evt_1", when, body),
    }
    verify([decode_secret(secret)], headers, body.encode(), when.timestamp())


def test_two_secrets_sign_side_by_side_and_either_verifies() -> None:
    new, old = decode_secret(new_secret()), decode_secret(new_secret())
    header = sign([new, old], VECTOR_ID, VECTOR_TIME, VECTOR_BODY)
    assert len(header.split(" ")) == 2
    for key in (new, old):
        headers = signed(key) | {"webhook-signature": header}
        verify([key], headers, VECTOR_BODY, VECTOR_TIME)


@pytest.mark.parametrize(
    ("change", "now", "body", "reason"),
    [
        ({"webhook-id": ""}, 0, VECTOR_BODY, "header missing: webhook-id"),
        ({"webhook-timestamp": "1614265330.5"}, 0, VECTOR_BODY, "not whole Unix seconds"),
        ({"webhook-timestamp": "-5"}, 0, VECTOR_BODY, "not whole Unix seconds"),
        ({"webhook-timestamp": "١٦"}, 0, VECTOR_BODY, "not whole Unix seconds"),
        ({}, 301, VECTOR_BODY, "301 s too old"),
        ({}, -301, VECTOR_BODY, "301 s too new"),
        ({"webhook-signature": "v1a,AAAA"}, 0, VECTOR_BODY, "no v1 signature"),
        ({"webhook-signature": "v1,!!! v1,AAAA"}, 0, VECTOR_BODY, "no signature matches"),
        ({"webhook-signature": "v1"}, 0, VECTOR_BODY, "no signature matches"),
        ({"webhook-id": "evt_other"}, 0, VECTOR_BODY, "no signature matches"),
        ({"webhook-timestamp": str(VECTOR_TIME + 1)}, 0, VECTOR_BODY, "no signature matches"),
        ({}, 0, VECTOR_BODY + b" ", "no signature matches"),
    ],
)
@pytest.mark.pitfall("P119")
def test_a_forged_altered_or_replayed_callback_is_refused_with_the_reason(
    change: dict[str, str], now: int, body: bytes, reason: str
) -> None:
    key = decode_secret(VECTOR_SECRET)
    with pytest.raises(Unverified, match=reason):
        verify([key], signed(key) | change, body, VECTOR_TIME + now)


@pytest.mark.parametrize("age", [-300, 0, 300])
def test_a_timestamp_within_the_tolerance_passes(age: int) -> None:
    key = decode_secret(VECTOR_SECRET)
    verify([key], signed(key), VECTOR_BODY, VECTOR_TIME + age)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("whsec_not base64!", "not base64"),
        ("whsec_", "0 bytes"),
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "23 bytes"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "65 bytes"),
    ],
)
def test_a_secret_of_another_shape_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        decode_secret(text)
