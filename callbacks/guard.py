"""Where callbacks may go: the URL at registration, every DNS answer, every socket address.

The last of the three decides: `GuardedSockets` judges the address of each connect after DNS and
before the first packet, so that literals, rebinding and happy eyeballs all pass it. The list of
ranges is our own because `ipaddress.is_global` lets several through (multicast, NAT64, 6to4,
ISATAP, 168.63.129.16, …). Source: IANA's special-purpose registries and the callback specification.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from aiohappyeyeballs import AddrInfoType
from yarl import URL

from indexer.config import Callbacks
from indexer.model import Refused

MAX_URL: Final = 2048  # characters
MAX_HOST: Final = 253  # characters
PORTS: Final = frozenset({443, 8443, 80})

# One sentence for every forbidden target, so that registering is no way to scan a network.
FORBIDDEN: Final = "callbacks may not go to this host"

# (range, what it is, whether `allow_private` lifts it); the first match decides.
_RANGES: Final = tuple(
    (ipaddress.ip_network(text), what, lifted)
    for text, what, lifted in (
        ("168.63.129.16/32", "metadata", False),  # Azure
        ("192.0.0.192/32", "metadata", False),  # Oracle
        ("100.100.100.200/32", "metadata", False),  # Alibaba
        ("fd00:ec2::/32", "metadata", False),  # Amazon
        ("fd20:ce::/32", "metadata", False),  # Google
        ("0.0.0.0/8", "this network", False),
        ("10.0.0.0/8", "private", True),
        ("100.64.0.0/10", "carrier-grade NAT", False),
        ("127.0.0.0/8", "loopback", True),
        ("169.254.0.0/16", "link-local", False),  # and most metadata services
        ("172.16.0.0/12", "private", True),
        ("192.0.0.0/24", "IETF assignments", False),
        ("192.0.2.0/24", "documentation", False),
        ("192.31.196.0/24", "AS112", False),
        ("192.52.193.0/24", "AMT", False),
        ("192.88.99.0/24", "6to4 relay", False),
        ("192.168.0.0/16", "private", True),
        ("192.175.48.0/24", "AS112", False),
        ("198.18.0.0/15", "benchmarking", False),
        ("198.51.100.0/24", "documentation", False),
        ("203.0.113.0/24", "documentation", False),
        ("224.0.0.0/4", "multicast", False),
        ("240.0.0.0/4", "reserved", False),
        ("::1/128", "loopback", True),
        ("::ffff:0:0/96", "IPv4-mapped", False),
        ("64:ff9b:1::/48", "local NAT64", False),
        ("2001::/23", "IETF assignments", False),  # Teredo, ORCHID, AMT, …
        ("2001:db8::/32", "documentation", False),
        ("2002::/16", "6to4", False),
        ("2620:4f:8000::/48", "AS112", False),
        ("3fff::/20", "documentation", False),
        ("fc00::/7", "private", True),
        ("fe80::/10", "link-local", False),
        ("fec0::/10", "site-local", False),
        ("ff00::/8", "multicast", False),
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")  # carries an IPv4 address, which is judged
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")  # all that IANA has given out
_ISATAP_MASK: Final = 0xFDFF_FFFF  # of an interface id's upper half; the u/l bit may be set
_ISATAP: Final = 0x0000_5EFE

_PRINTABLE = re.compile(r"[!-~]+")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")  # a last label like this makes the host an IPv4 address


class Blocked(OSError):
    """A connect that the guard stopped before its first packet."""

    def __init__(self) -> None:
        super().__init__(FORBIDDEN)


def forbidden(address: str, *, allow_private: bool = False) -> str | None:
    """Why no callback may go to an IP address (its text, without a port); None if one may."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "not an IP address"
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return "scoped"
        if ip in _NAT64:
            return forbidden(str(IPv4Address(int(ip) & 0xFFFF_FFFF)), allow_private=allow_private)
    for network, what, lifted in _RANGES:
        if ip in network:
            return None if lifted and allow_private else what
    if isinstance(ip, IPv6Address):
        if ip not in _GLOBAL_UNICAST:
            return "reserved"
        if (int(ip) >> 32) & _ISATAP_MASK == _ISATAP:
            return "ISATAP"
    return None


def check_url(text: str, rules: Callbacks) -> URL:
    """The URL, parsed once for good. Refused with a sentence unless callbacks may go there.

    Judges the text alone: its form, scheme, port, and a literal address. Names are judged by what
    they resolve to, at every connect.
    """
    if len(text) > MAX_URL:
        raise Refused(f"a callback's URL has at most {MAX_URL} characters, this one {len(text)}")
    if _PRINTABLE.fullmatch(text) is None or "\\" in text:
        raise Refused("a callback's URL is printable ASCII: no spaces, controls or backslashes")
    if "#" in text:
        raise Refused("a callback's URL has no fragment (#…)")
    try:
        url = URL(text, encoded=True)
        host, port = url.raw_host, url.port
    except ValueError:
        raise Refused("this is not a URL") from None
    if url.scheme != "https" and not (url.scheme == "http" and rules.allow_http):
        raise Refused("a callback's URL starts with https://")
    if "@" in url.raw_authority:
        raise Refused("a callback's URL holds no user name or password")
    if not host:
        raise Refused("a callback's URL names a host")
    _check_host(host.lower(), rules)
    if port not in PORTS and not (rules.allow_private and port):
        raise Refused(f"callbacks go to the ports {', '.join(map(str, sorted(PORTS)))} only")
    return url


def _check_host(host: str, rules: Callbacks) -> None:
    if ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            canonical = str(ipaddress.ip_address(host)) == host
        except ValueError:
            canonical = False
        if not canonical:
            raise Refused("the host of a callback's URL is an address in an unusual form")
        if forbidden(host, allow_private=rules.allow_private):
            raise Refused(FORBIDDEN)
    elif len(host) > MAX_HOST or not all(map(_LABEL.fullmatch, host.split("."))):
        raise Refused("the host of a callback's URL is not a host name (IDN: write it as xn--…)")


class GuardedSockets:
    """A `socket_factory`: makes the socket of one connect, if its address is not forbidden."""

    def __init__(self, rules: Callbacks) -> None:
        self._rules = rules

    def __call__(self, info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if forbidden(str(address[0]), allow_private=self._rules.allow_private):
            raise Blocked
        return socket.socket(family, kind, protocol)
