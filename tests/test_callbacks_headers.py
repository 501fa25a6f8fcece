"""Which headers of its own an endpoint may add to every request."""

from __future__ import annotations

import pytest

from callbacks.headers import MAX_HEADERS, check_headers
from indexer.model import Refused


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer a.b-c_d=="},
        {"X-Api-Key": "k", "x-tenant": "one, two\tthree"},
        {f"X-{n}": "v" for n in range(MAX_HEADERS)},
        {"x" * 64: "v" * 1024},
    ],
    ids=range(5),
)
def test_an_ordinary_header_is_taken(headers: dict[str, str]) -> None:
    check_headers(headers)


@pytest.mark.case(22)
@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "v\r\nX-B: w"},
        {"X-A": "v\nw"},
        {"X-A": "v\r"},
        {"X-A\r\nX-B": "v"},
        {"X-A:": "v"},
        {"X A": "v"},
        {"X-Ä": "v"},
        {"": "v"},
        {"X-A": ""},
        {"X-A": " v"},
        {"X-A": "v "},
        {"X-A": "v\x00"},
        {"X-A": "v\x7f"},
        {"X-A": "\u2028"},
        {"X-A": "ü"},
        {"x" * 65: "v"},
        {"X-A": "v" * 1025},
    ],
    ids=range(17),
)
def test_a_header_that_could_be_read_as_two_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Refused, match=r"token|printable"):
        check_headers(headers)


@pytest.mark.case(22)
@pytest.mark.parametrize(
    "name",
    [
        "webhook-id",
        "Webhook-Signature",
        "WEBHOOK-anything",
        "Host",
        "Content-Length",
        "content-type",
        "content-encoding",
        "Connection",
        "Transfer-Encoding",
        "TE",
        "Upgrade",
        "Expect",
        "Keep-Alive",
        "Proxy-Authorization",
        "User-Agent",
        "Accept-Encoding",
    ],
)
def test_what_the_request_consists_of_is_reserved(name: str) -> None:
    with pytest.raises(Refused, match=f"the header {name} is not"):
        check_headers({name: "v"})


def test_no_more_than_ten_and_none_twice() -> None:
    with pytest.raises(Refused, match="at most 10"):
        check_headers({f"X-{n}": "v" for n in range(MAX_HEADERS + 1)})
    with pytest.raises(Refused, match="twice"):
        check_headers({"X-A": "v", "x-a": "w"})


def test_a_refused_value_is_not_repeated() -> None:
    with pytest.raises(Refused) as caught:
        check_headers({"Authorization": "Basic s3cret\n"})
    assert "s3cret" not in str(caught.value)
