"""Where a request comes from: the peer, or what a trusted proxy says of it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web

from indexer.api.context import context_of

Address = IPv4Address | IPv6Address


def client_address(request: web.Request) -> Address:
    """The address nearest to us that is no trusted proxy.

    `X-Forwarded-For` grows to the right: each proxy adds who spoke to it. What stands left of the
    first address that is not ours to trust is the caller's own invention.
    """
    address = plain(ip_address(request.remote or "0.0.0.0"))
    trusted = context_of(request).settings.api.trusted_proxies
    said = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
    while said and any(address in network for network in trusted):
        try:
            address = plain(ip_address(said.pop().strip()))
        except ValueError:
            break
    return address


def plain(address: Address) -> Address:
    """An IPv4 address that came in IPv6's clothes is an IPv4 address."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
