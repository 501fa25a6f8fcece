"""What others must not read, encrypted under `secret_key`: stored secrets, and names given out."""

from __future__ import annotations

import os
import secrets
from base64 import b32decode, b32encode
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from indexer.model import Impossible

KEY_BYTES: Final = 32  # AES-256
NONCE_BYTES: Final = 12  # random; safe for 2^32 secrets under one key (NIST SP 800-38D, 8.3)
KEY_FILE: Final = "secret.key"
VERSION: Final = b"\x01"  # of the sealed form: version, nonce, ciphertext with its tag


class Vault:
    """Encrypts and decrypts with keys derived from the installation's `secret_key`."""

    def __init__(self, secret_key: str) -> None:
        self._cipher = AESGCM(_derive(secret_key, b"depositd stored secrets 1"))
        self._names = AESSIV(_derive(secret_key, b"depositd concealed names 1", 2 * KEY_BYTES))
        # Derived beside the key, so it tells whether two keys are the same and nothing else.
        self.fingerprint = _derive(secret_key, b"depositd key fingerprint 1")

    def __repr__(self) -> str:
        return "Vault()"

    def encrypt(self, plain: bytes, bound_to: str) -> bytes:
        """The sealed form; it opens only with the same `bound_to`, say the id of its owner."""
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + nonce + self._cipher.encrypt(nonce, plain, bound_to.encode())

    def decrypt(self, sealed: bytes, bound_to: str) -> bytes:
        """What `encrypt` sealed. Raises Impossible if it was altered or is bound otherwise."""
        nonce, body = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            if sealed[:1] != VERSION or len(nonce) != NONCE_BYTES:
                raise InvalidTag
            return self._cipher.decrypt(nonce, body, bound_to.encode())
        except InvalidTag:
            raise Impossible(f"the stored secret of {bound_to} does not open") from None

    def conceal(self, plain: bytes, bound_to: str) -> str:
        """A name to give out, a-z and 2-7: it tells of `plain` whether two are the same, no more.

        The same bytes have the same name, always (AES-SIV, RFC 5297).
        """
        sealed = self._names.encrypt(plain, [bound_to.encode()])
        return b32encode(sealed).decode().rstrip("=").lower()

    def reveal(self, name: str, bound_to: str) -> bytes | None:
        """What `conceal` made a name of; None for a name that it never gave out."""
        try:
            sealed = b32decode(name.upper() + "=" * (-len(name) % 8))
            plain = self._names.decrypt(sealed, [bound_to.encode()])
        except (ValueError, InvalidTag):
            return None
        return plain if self.conceal(plain, bound_to) == name else None


def _derive(secret_key: str, purpose: bytes, length: int = KEY_BYTES) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=purpose).derive(secret_key.encode())


def installation_key(data_dir: Path) -> str:
    """The secret_key of an installation that has none configured: made once, 0600, in `data_dir`.

    Safe to call from many processes at once: the first one's key wins.
    """
    path = data_dir / KEY_FILE
    if not path.exists():
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        fresh = path.with_name(f"{KEY_FILE}.{secrets.token_hex(8)}")
        try:
            write_private(fresh, secrets.token_urlsafe(KEY_BYTES) + "\n")
            with suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    return path.read_text(encoding="ascii").strip()


def write_private(path: Path, text: str) -> None:
    """A new file that only its owner may read; whole, or not there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
