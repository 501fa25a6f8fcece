"""A certificate authority of the tests' own, and servers whose certificates are not as they should.

`trusting` is the only way for a Sender to believe it: nothing in the system knows it.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import trustme

from callbacks.sender import make_tls


class Authority:
    def __init__(self) -> None:
        self._root = trustme.CA()

    def trusting(self) -> ssl.SSLContext:
        """As the program makes it, and this authority is trusted as well."""
        context = make_tls()
        self._root.configure_trust(context)
        return context

    def server(self, *names: str, days: int = 1, oldest: bool = False) -> ssl.SSLContext:
        """A server with a certificate for `names` that ends in so many days (or has ended).

        `oldest`: it speaks nothing newer than TLS 1.1.
        """
        until = datetime.now(UTC) + timedelta(days=days)
        leaf = self._root.issue_cert(*names, not_before=until - timedelta(days=30), not_after=until)
        context = _server(leaf)
        if oldest:
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        return context

    def server_without_chain(self, *names: str) -> ssl.SSLContext:
        """A good certificate of an intermediate authority that the server does not send along."""
        leaf = self._root.create_child_ca().issue_cert(*names)
        return _server(leaf, chain=1)


def _server(leaf: trustme.LeafCert, chain: int | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = leaf.private_key_pem.bytes() + b"".join(
        blob.bytes() for blob in leaf.cert_chain_pems[:chain]
    )
    with trustme.Blob(pem).tempfile() as file:
        context.load_cert_chain(file)
    return context
