"""What verifies here verifies in the public library too, and the other way; if not, exactly why."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from standardwebhooks import Webhook, WebhookVerificationError

from callbacks.signing import decode_secret, mac, new_secret, sign
from callbacks.verification import Unverified, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = decode_secret(SECRET)
ID = "evt_abc"
TIME = 1_790_000_000
BODY = b'{"type":"deposit.confirmed"}'


def signed(key: bytes = KEY, timestamp: int = TIME, body: bytes = BODY) -> dict[str, str]:
    return {
        "webhook-id": ID,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([key], ID, timestamp, body),
    }


@pytest.mark.case(25)
@given(body=st.text(max_size=200))
def test_what_the_public_library_signs_is_verified_here(body: str) -> None:
    secret, when = new_secret(), datetime.now(UTC)
    headers = {
        "Webhook-Id": ID,
        "Webhook-Timestamp": str(int(when.timestamp())),
        "Webhook-Signature": Webhook(secret).sign(ID, when, body),
    }
    verify([decode_secret(secret)], headers, body.encode(), when.timestamp())


@given(
    change=st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]),
        st.sampled_from(["", "x", "0", "v1,AAAA", "v2,AAAA", "v1,AA=A v1,", "99999999999"]),
    ),
    before=st.sampled_from(["", "v1,AAAA ", "v1a,AAAA ", "v2,x "]),
    age=st.integers(-400, 400).filter(lambda age: abs(abs(age) - 300) > 5),
    body=st.sampled_from([BODY, b"{}"]),
)
def test_both_accept_and_both_refuse(
    change: dict[str, str], before: str, age: int, body: bytes
) -> None:
    now = time.time()
    headers = signed(timestamp=int(now) - age)
    headers["webhook-signature"] = before + headers["webhook-signature"]
    headers |= change
    try:
        Webhook(SECRET).verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):  # it knows no better than ValueError of some
        with pytest.raises(Unverified):
            verify([KEY], headers, body, now)
    else:
        assert verify([KEY], headers, body, now) == 0


@pytest.mark.case(26)
def test_two_secrets_sign_side_by_side_and_it_is_told_which_verified() -> None:
    new, old = decode_secret(new_secret()), decode_secret(new_secret())
    headers = signed() | {"webhook-signature": sign([new, old], ID, TIME, BODY)}
    for known, which in (([new], 0), ([old], 0), ([old, new], 0), ([KEY, old], 1)):
        assert verify(known, headers, BODY, TIME) == which
    with pytest.raises(Unverified, match="made with another secret"):
        verify([KEY], headers, BODY, TIME)


@pytest.mark.parametrize("age", [-300, 0, 300])
def test_a_timestamp_within_the_tolerance_passes(age: int) -> None:
    verify([KEY], signed(), BODY, TIME + age)


ALTERED = "made with another secret, or id, timestamp or body were changed"


@pytest.mark.pitfall("P119")
@pytest.mark.parametrize(
    ("change", "late", "body", "reason"),
    [
        ({"webhook-id": ""}, 0, BODY, "header missing: webhook-id$"),
        (dict.fromkeys(signed(), ""), 0, BODY, "webhook-id, webhook-timestamp, webhook-signature$"),
        ({"webhook-timestamp": "1614265330.5"}, 0, BODY, "not whole Unix seconds"),
        ({"webhook-timestamp": "-5"}, 0, BODY, "not whole Unix seconds"),
        ({"webhook-timestamp": "١٦"}, 0, BODY, "not whole Unix seconds"),
        ({"webhook-timestamp": f"{TIME}000"}, 0, BODY, "in milliseconds"),
        ({}, 301, BODY, "is 301 s old; 300 s are tolerated"),
        ({}, -301, BODY, "is 301 s ahead of this clock"),
        ({"webhook-signature": "v1a,AAAA"}, 0, BODY, "no v1 signature, only v1a"),
        ({"webhook-signature": "v1,!!!"}, 0, BODY, "is base64"),
        ({"webhook-signature": "v1"}, 0, BODY, "is base64"),
        ({"webhook-signature": "v1,!!! v1,AAAA"}, 0, BODY, ALTERED),
        ({"webhook-id": "evt_other"}, 0, BODY, ALTERED),
        ({"webhook-id": "evt_\udcff"}, 0, BODY, ALTERED),
        ({"webhook-timestamp": str(TIME + 1)}, 0, BODY, ALTERED),
        ({}, 0, BODY.replace(b"confirmed", b"finalized"), ALTERED),
        ({}, 0, BODY + b"\n", "changed on the way: .* without blanks at its ends"),
        ({}, 0, b'{\n "type": "deposit.confirmed" }', "the same JSON, written without blanks"),
    ],
)
def test_a_forged_altered_or_replayed_callback_is_refused_with_the_reason(
    change: dict[str, str], late: int, body: bytes, reason: str
) -> None:
    with pytest.raises(Unverified, match=reason):
        verify([KEY], signed() | change, body, TIME + late)


def over(prefix: bytes, key: bytes) -> bytes:
    return mac(key, prefix + BODY)


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (lambda full: over(full, SECRET.encode()), "secret was used as text"),
        (
            lambda full: over(full, SECRET.removeprefix("whsec_").encode()),
            "secret was used as text",
        ),
        (lambda _: over(b"", KEY), "the body alone was signed"),
    ],
)
def test_what_was_signed_instead_is_named(signature: Callable[[bytes], bytes], reason: str) -> None:
    made = signature(f"{ID}.{TIME}.".encode())
    headers = signed() | {"webhook-signature": "v1," + base64.b64encode(made).decode()}
    with pytest.raises(Unverified, match=reason):
        verify([KEY], headers, BODY, TIME)


def test_a_hexadecimal_signature_is_called_that() -> None:
    made = over(f"{ID}.{TIME}.".encode(), KEY)
    with pytest.raises(Unverified, match="is hexadecimal; it must be base64"):
        verify([KEY], signed() | {"webhook-signature": f"v1,{made.hex()}"}, BODY, TIME)


def test_how_many_secrets_were_tried_is_told() -> None:
    with pytest.raises(Unverified, match="with none of the 2 secrets"):
        verify([KEY[::-1], KEY + KEY], signed(), BODY, TIME)


def test_a_header_that_came_twice_is_refused_though_one_is_good() -> None:
    headers = CIMultiDict(signed())
    headers.add("Webhook-Signature", "v1,AAAA")
    with pytest.raises(Unverified, match="webhook-signature came 2 times"):
        verify([KEY], headers, BODY, TIME)
