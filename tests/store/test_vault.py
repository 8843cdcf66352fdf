"""Encryption at rest: what is sealed opens here and nowhere else, whole and unchanged."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.secret import Secret
from service.store.vault import Place, Unopenable, Vault

from .samples import KEY, OTHER_KEY

PLACE = Place("credential", "refresh_token", "default", 7)
VAULT = Vault(KEY)

places = st.builds(Place, st.text(), st.text(), st.text(), st.integers(0, 2**63 - 1))


def refusal(vault: Vault, sealed: bytes, place: Place) -> str:
    with pytest.raises(Unopenable) as refused:
        vault.open(sealed, place)
    return str(refused.value)


@given(st.text(), places)
def test_what_is_sealed_opens_at_its_place(text: str, place: Place) -> None:
    assert VAULT.open(VAULT.seal(Secret(text), place), place).reveal() == text


def test_the_key_alone_opens_it_in_a_later_process() -> None:
    sealed = Vault(KEY).seal(Secret("token"), PLACE)
    assert Vault(KEY).open(sealed, PLACE).reveal() == "token"


def test_every_flipped_bit_is_refused_with_one_text() -> None:
    sealed = VAULT.seal(Secret("a refresh token"), PLACE)
    flipped = (
        sealed[:at] + bytes([sealed[at] ^ (1 << bit)]) + sealed[at + 1 :]
        for at in range(len(sealed))
        for bit in range(8)
    )
    assert {refusal(VAULT, changed, PLACE) for changed in flipped} == {"a stored value does not open"}


def test_every_shorter_value_is_refused() -> None:
    sealed = VAULT.seal(Secret("a refresh token"), PLACE)
    assert {refusal(VAULT, sealed[:length], PLACE) for length in range(len(sealed))} == {"a stored value does not open"}


@given(st.binary(max_size=80))
def test_bytes_that_were_never_sealed_are_refused(noise: bytes) -> None:
    refusal(VAULT, noise, PLACE)
    refusal(VAULT, b"\x01" + VAULT.first.id + noise, PLACE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, table="login"),
        replace(PLACE, column="access_token"),
        replace(PLACE, row="work"),
        replace(PLACE, generation=8),
        replace(PLACE, generation=6),
    ],
    ids=["table", "column", "row", "newer generation", "older generation"],
)
def test_a_value_that_was_moved_is_refused(elsewhere: Place) -> None:
    sealed = VAULT.seal(Secret("a refresh token"), PLACE)
    assert refusal(VAULT, sealed, elsewhere) == "a stored value does not open"


@given(places, places)
def test_no_two_places_are_the_same_to_the_cipher(one: Place, other: Place) -> None:
    assert (one == other) == (one.associated(b"12345678") == other.associated(b"12345678"))


def test_names_that_run_together_are_different_places() -> None:
    sealed = VAULT.seal(Secret("token"), Place("ab", "c", "d"))
    refusal(VAULT, sealed, Place("a", "bc", "d"))


def test_another_key_is_refused() -> None:
    sealed = VAULT.seal(Secret("token"), PLACE)
    assert refusal(Vault(OTHER_KEY), sealed, PLACE) == "a stored value does not open"


def test_another_key_that_claims_the_right_name_is_refused() -> None:
    sealed = VAULT.seal(Secret("token"), PLACE)
    other = Vault(OTHER_KEY)
    refusal(other, sealed[:1] + other.first.id + sealed[9:], PLACE)


def test_a_newer_format_is_refused() -> None:
    refusal(VAULT, b"\x02" + VAULT.seal(Secret("token"), PLACE)[1:], PLACE)


def test_the_key_cannot_be_told_from_its_name() -> None:
    assert VAULT.first.id not in KEY
    assert len(VAULT.first.id) == 8


def test_nonces_do_not_repeat() -> None:
    sealed = [VAULT.seal(Secret("token"), PLACE) for _ in range(10_000)]
    assert len({each[9:21] for each in sealed}) == 10_000


def test_a_fingerprint_needs_the_key() -> None:
    secret = Secret("a refresh token")
    assert VAULT.fingerprint(secret) == Vault(KEY).fingerprint(secret)
    assert VAULT.fingerprint(secret) != Vault(OTHER_KEY).fingerprint(secret)


@given(st.text(), st.text())
def test_fingerprints_tell_secrets_apart(one: str, other: str) -> None:
    assert (one == other) == (VAULT.fingerprint(Secret(one)) == VAULT.fingerprint(Secret(other)))


@pytest.mark.parametrize(
    "key",
    [b"", KEY[:31], KEY + b"x", KEY[:16], bytes(32), b"\xff" * 32, b"aaaaaaaabbbbbbbbccccccccdddddddd"],
    ids=["empty", "short", "long", "half", "zeros", "ones", "text of few letters"],
)
def test_an_unusable_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="an encryption key is 32 random bytes"):
        Vault(key)
