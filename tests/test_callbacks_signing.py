"""Signatures agree with the specification's vector and with the public library."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from callbacks.signing import decode_secret, new_secret, sign
from indexer.model import Refused

VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIME = 1614265330
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.case(25)
def test_the_specifications_vector() -> None:
    key = decode_secret(VECTOR_SECRET)
    assert sign([key], VECTOR_ID, VECTOR_TIME, VECTOR_BODY) == VECTOR_SIGNATURE


def test_a_new_secret_has_32_random_bytes() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 32


@pytest.mark.case(28)
@given(body=st.text(max_size=200), padded=st.booleans())
def test_the_public_library_verifies_what_is_signed_here(body: str, padded: bool) -> None:
    secret = new_secret() if padded else new_secret().rstrip("=")
    now = int(time.time())
    raw = body.encode()
    headers = {
        "webhook-id": VECTOR_ID,
        "webhook-timestamp": str(now),
        "webhook-signature": sign([decode_secret(secret)], VECTOR_ID, now, raw),
    }
    Webhook(secret).verify(raw, headers, json_parse=False)


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
