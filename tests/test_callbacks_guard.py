"""What callbacks may not reach stays out of reach, however it is written.

Texts only: what connects is tried in tests/wire/test_wire_targets.py.
"""

from __future__ import annotations

import pytest

from callbacks.guard import check_url, forbidden
from indexer.config import Callbacks
from indexer.model import Refused

STRICT = Callbacks()
LOOSE = Callbacks(allow_private=True, allow_http=True)


@pytest.mark.case(19)
@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:8.8.8.8",
        "::ffff:0:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2600::1%eth0",
        "fec0::1",
        "ff02::1",
        "2600::5efe:7f00:1",
        "2600::200:5efe:7f00:1",
        "4000::1",
        "not-an-address",
        "127.1",
        "2130706433",
    ],
)
def test_no_callback_goes_to_a_special_address(address: str) -> None:
    assert forbidden(address) is not None


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2600::1", "64:ff9b::808:808"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert forbidden(address) is None


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "fd12::1"]
)
def test_allow_private_lifts_loopback_and_private_ranges(address: str) -> None:
    assert forbidden(address) is not None
    assert forbidden(address, allow_private=True) is None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "64:ff9b::a9fe:a9fe",
        "::ffff:a9fe:a9fe",
        "0.0.0.0",
    ],
)
def test_allow_private_never_lifts_metadata_addresses(address: str) -> None:
    assert forbidden(address, allow_private=True) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/in?key=a%2Fb&x=%7B",
        "https://hooks.example.com",
        "https://Example.COM:8443/",
        "https://hooks.example.com:80/",
        "https://xn--bcher-kva.example/hook",
        "https://8.8.8.8/",
        "https://[2600::1]/",
        "https://h.example/" + "a" * (2048 - 18),
    ],
)
def test_an_ordinary_url_is_taken_as_it_is(url: str) -> None:
    assert str(check_url(url, STRICT)).startswith(url.split(":80")[0].split(":8443")[0])


@pytest.mark.case(19, 22)
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://h.example/" + "a" * (2049 - 18), "at most 2048"),
        ("https://h.example/a b", "printable ASCII"),
        ("https://h.example/\r\nx: y", "printable ASCII"),
        ("https://h.example/\x00", "printable ASCII"),
        ("https://h.example\\@evil.example/", "backslashes"),
        ("https://\uff11\uff12\uff17.0.0.1/", "printable ASCII"),
        ("https://ex\u0430mple.com/", "printable ASCII"),
        ("https://h.example/#top", "fragment"),
        ("https://h.example/#", "fragment"),
        ("http://h.example/", "https://"),
        ("ftp://h.example/", "https://"),
        ("h.example/hook", "https://"),
        ("", "printable ASCII"),
        ("https://a@b.example/", "user name"),
        ("https://a:b@b.example/", "user name"),
        ("https://@b.example/", "user name"),
        ("https:///hook", "names a host"),
        ("https://h.example:99999/", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://h.example:22/", "ports"),
        ("https://h.example:25/", "ports"),
        ("https://h.example:6379/", "ports"),
        ("https://h.example:0/", "ports"),
        ("https://127.1/", "unusual form"),
        ("https://2130706433/", "unusual form"),
        ("https://0x7f.1/", "unusual form"),
        ("https://0x7f000001/", "unusual form"),
        ("https://0177.0.0.1/", "unusual form"),
        ("https://0/", "unusual form"),
        ("https://8.8.8.8./", "host name"),
        ("https://[2600:0::1]/", "unusual form"),
        ("https://[fe80::1%25eth0]/", "unusual form|may not go"),
        ("https://h.example./", "host name"),
        ("https://h..example/", "host name"),
        ("https://-h.example/", "host name"),
        ("https://%31%32%37.0.0.1/", "unusual form|host name"),
        ("https://127.0.0.1/", "may not go"),
        ("https://[::]/", "may not go"),
        ("https://[::1]/", "may not go"),
        ("https://[::ffff:7f00:1]/", "may not go|unusual form"),
        ("https://[::127.0.0.1]/", "may not go|unusual form"),
        ("https://[64:ff9b::a9fe:a9fe]/", "may not go"),
        ("https://[2002:7f00:1::]/", "may not go"),
        ("https://[fec0::1]/", "may not go"),
        ("https://[ff02::1]/", "may not go"),
        ("https://168.63.129.16/", "may not go"),
        ("https://100.64.0.1/", "may not go"),
        ("https://224.0.0.1/", "may not go"),
    ],
)
def test_a_url_that_could_hide_its_target_is_refused(url: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        check_url(url, STRICT)


def test_the_development_settings_lift_scheme_ports_and_private_addresses() -> None:
    assert check_url("http://127.0.0.1:8999/hook", LOOSE).port == 8999
    assert check_url("http://localhost:1234/", LOOSE).host == "localhost"
    for url in ("http://169.254.169.254/latest", "http://2130706433/", "http://a@127.0.0.1/"):
        with pytest.raises(Refused):
            check_url(url, LOOSE)
    with pytest.raises(Refused):
        check_url("http://h.example/", Callbacks(allow_private=True))
    with pytest.raises(Refused):
        check_url("http://h.example:81/", Callbacks(allow_http=True))
