"""Endpoint keys at rest and in rotation."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.webhooks.keys import KEPT, Key, Keyring, SealBroken, rotated
from services.webhooks.signing import Secret

ENDPOINT, OTHER = UUID(int=1), UUID(int=2)


def key() -> str:
    return Secret.generate().text()


def test_what_is_sealed_opens_again_and_shows_nothing() -> None:
    ring, text = Keyring("a secret of the service"), key()
    sealed = ring.seal(ENDPOINT, [Key(text)])
    assert ring.open(ENDPOINT, sealed) == [Key(text)]
    assert text.encode() not in sealed
    assert text not in repr(Key(text))
    assert ring.seal(ENDPOINT, [Key(text)]) != sealed


def test_it_opens_for_its_endpoint_and_its_service_key_only() -> None:
    ring = Keyring("a secret of the service")
    sealed = ring.seal(ENDPOINT, [Key(key())])
    with pytest.raises(SealBroken):
        ring.open(OTHER, sealed)
    with pytest.raises(SealBroken):
        Keyring("another secret").open(ENDPOINT, sealed)


@given(st.binary(max_size=200))
def test_garbage_does_not_open(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        Keyring("a secret of the service").open(ENDPOINT, sealed)


def test_during_a_rotation_both_sign_the_newest_first_and_then_the_new_one_alone() -> None:
    ring, old, new = Keyring("a secret of the service"), key(), key()
    keys = rotated([Key(old)], new, now=100, overlap_seconds=50)
    sealed = ring.seal(ENDPOINT, keys)
    assert [each.text() for each in ring.signing(ENDPOINT, sealed, 120) if isinstance(each, Secret)] == [new, old]
    assert [each.text() for each in ring.signing(ENDPOINT, sealed, 151) if isinstance(each, Secret)] == [new]


def test_many_rotations_keep_few_keys_and_never_revive_one() -> None:
    keys = [Key(key())]
    for number in range(10):
        keys = rotated(keys, key(), now=number, overlap_seconds=100)
    assert len(keys) == KEPT
    assert [each.until is None for each in keys] == [True, False, False, False]


def test_rotating_to_the_same_key_keeps_one() -> None:
    text = key()
    assert rotated([Key(text)], text, now=0, overlap_seconds=100) == [Key(text)]
