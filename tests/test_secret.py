"""Stored secrets: sealed, bound to their owner, and useless without the key."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexer.model import Impossible
from indexer.secret import Vault, installation_key

KEY = "correct horse battery"


def test_what_is_encrypted_opens_again_and_does_not_show() -> None:
    vault = Vault(KEY)
    sealed = vault.encrypt(b"whsec_plain", "ep_1")
    assert b"plain" not in sealed
    assert vault.decrypt(sealed, "ep_1") == b"whsec_plain"
    assert Vault(KEY).decrypt(sealed, "ep_1") == b"whsec_plain"


def test_the_same_secret_is_never_sealed_alike() -> None:
    vault = Vault(KEY)
    assert vault.encrypt(b"x", "ep_1") != vault.encrypt(b"x", "ep_1")


def test_a_secret_moved_to_another_owner_does_not_open() -> None:
    vault = Vault(KEY)
    with pytest.raises(Impossible, match="ep_2"):
        vault.decrypt(vault.encrypt(b"x", "ep_1"), "ep_2")


def test_a_name_is_the_same_always_and_tells_nothing_of_its_neighbours() -> None:
    vault = Vault(KEY)
    names = [vault.conceal(number.to_bytes(8, "big"), "dlv_") for number in range(50)]
    assert names == [Vault(KEY).conceal(n.to_bytes(8, "big"), "dlv_") for n in range(50)]
    assert len(set(names)) == len({name[:8] for name in names}) == 50
    assert all(name.isalnum() and name == name.lower() for name in names)
    assert [vault.reveal(name, "dlv_") for name in names] == [
        n.to_bytes(8, "big") for n in range(50)
    ]


def test_a_name_is_known_only_as_it_was_given_out() -> None:
    vault = Vault(KEY)
    name = vault.conceal(b"7", "dlv_")
    altered = (name.upper(), name + "=", name[:-1], name + "a", "b" + name[1:])
    for bad in (*altered, "", "é", "\0", " "):
        assert vault.reveal(bad, "dlv_") is None, bad
    assert vault.reveal(name, "imp_") is None
    assert Vault(KEY + "!").reveal(name, "dlv_") is None


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(Impossible):
        Vault(KEY + "!").decrypt(Vault(KEY).encrypt(b"x", "ep_1"), "ep_1")


def test_no_altered_byte_goes_unnoticed() -> None:
    vault = Vault(KEY)
    sealed = vault.encrypt(b"x", "ep_1")
    for index in range(len(sealed)):
        altered = sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :]
        with pytest.raises(Impossible):
            vault.decrypt(altered, "ep_1")
    for length in range(len(sealed)):
        with pytest.raises(Impossible):
            vault.decrypt(sealed[:length], "ep_1")


def test_the_fingerprint_tells_keys_apart_and_nothing_else() -> None:
    vault = Vault(KEY)
    assert vault.fingerprint == Vault(KEY).fingerprint
    assert vault.fingerprint != Vault(KEY + "!").fingerprint
    assert KEY.encode() not in vault.fingerprint
    assert KEY not in repr(vault)


def test_an_installation_makes_its_key_once_and_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    key = installation_key(folder)
    assert len(key) >= 40
    assert installation_key(folder) == key
    assert stat.S_IMODE((folder / "secret.key").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["secret.key"]


def test_starters_at_once_agree_on_the_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(installation_key, [tmp_path] * 40))
    assert len(keys) == 1
