"""Encryption at rest: what is sealed opens here and nowhere else, whole and unchanged."""

import hashlib
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.secret import Secret
from service.store.vault import Key, Place, Unopenable, Vault

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


def test_what_was_sealed_years_ago_opens() -> None:
    """The bytes of one value, so that no change of the format or of a derived key goes unseen."""
    vault = Vault(bytes(range(32)))
    assert vault.first.id.hex() == "630dcd2966c43366"
    assert vault.fingerprint(Secret("token")) == "6ead4c178dce0c65c45801b09b34ee64a225ad890ec6b65d28e6c26fd04812ee"
    sealed = bytes.fromhex("01630dcd2966c433663a871e5c0963be16c8d4759fa5ebf0ad2f4c5209c8e0d327ff7cc8b31589fa0da4")
    assert vault.open(sealed, PLACE).reveal() == "token"


def test_a_sealed_value_is_as_long_as_its_format_says() -> None:
    """Version, key id, nonce, the text, and the tag of 16 bytes."""
    assert len(VAULT.seal(Secret("token"), PLACE)) == 1 + 8 + 12 + 5 + 16


def test_a_place_without_a_generation_is_of_generation_zero() -> None:
    assert Place("a", "b", "c") == Place("a", "b", "c", 0)


def test_a_place_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PLACE.row = "work"  # type: ignore[misc]


def test_a_key_of_eight_different_bytes_is_the_least_random_one() -> None:
    Vault(b"abcdefgh" * 4)
    with pytest.raises(ValueError, match="32 random bytes"):
        Vault(b"abcdefga" * 4)


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


# -- several keys --------------------------------------------------------------------------------------------------

SOME_KEYS = [hashlib.sha256(b"%d" % number).digest() for number in range(6)]
some_keys = st.lists(st.sampled_from(SOME_KEYS), min_size=1, unique=True)


@given(some_keys, st.permutations(SOME_KEYS), st.text(), places)
def test_whatever_one_of_the_keys_has_sealed_opens_on_whichever_line_it_stands(
    keys: list[bytes], in_another_order: list[bytes], text: str, place: Place
) -> None:
    sealed = Vault(*keys).seal(Secret(text), place)
    assert sealed.startswith(Key(keys[0]).head)
    assert Vault(*in_another_order).open(sealed, place).reveal() == text


@given(some_keys, some_keys)
def test_what_none_of_the_keys_has_sealed_is_refused(sealing: list[bytes], opening: list[bytes]) -> None:
    sealed = Vault(*sealing).seal(Secret("token"), PLACE)
    if sealing[0] not in opening:
        assert refusal(Vault(*opening), sealed, PLACE) == "a stored value does not open"


def test_every_flipped_bit_is_refused_with_one_text_whatever_other_keys_there_are() -> None:
    vault = Vault(OTHER_KEY, KEY, *SOME_KEYS)
    sealed = VAULT.seal(Secret("a refresh token"), PLACE)
    assert vault.open(sealed, PLACE) == Secret("a refresh token")
    flipped = (
        sealed[:at] + bytes([sealed[at] ^ (1 << bit)]) + sealed[at + 1 :]
        for at in range(len(sealed))
        for bit in range(8)
    )
    assert {refusal(vault, changed, PLACE) for changed in flipped} == {"a stored value does not open"}


def test_a_value_that_says_it_is_of_another_of_the_keys_is_refused() -> None:
    sealed = VAULT.seal(Secret("token"), PLACE)
    refusal(Vault(KEY, OTHER_KEY), Key(OTHER_KEY).head + sealed[9:], PLACE)


def test_the_source_is_asked_for_a_key_that_is_missing_and_for_no_other() -> None:
    said: list[list[bytes] | None] = [[OTHER_KEY, KEY]]
    vault = Vault(KEY, news=lambda: said.pop() if said else None)
    ours, theirs = (Vault(key).seal(Secret("token"), PLACE) for key in (KEY, OTHER_KEY))
    assert vault.open(ours, PLACE) == Secret("token")
    assert len(said) == 1
    assert vault.open(theirs, PLACE) == Secret("token")
    assert said == []
    assert vault.seal(Secret("token"), PLACE).startswith(Key(OTHER_KEY).head)


def test_a_key_that_has_left_the_source_still_opens_here() -> None:
    said = [[OTHER_KEY]]
    vault = Vault(KEY, news=lambda: said.pop() if said else None)
    ours, theirs = (Vault(key).seal(Secret("token"), PLACE) for key in (KEY, OTHER_KEY))
    assert [vault.open(each, PLACE).reveal() for each in (theirs, ours)] == ["token", "token"]


def test_fingerprints_stay_whatever_keys_there_are() -> None:
    vault = Vault(OTHER_KEY, KEY)
    vault.name_with(Key(KEY).fingerprints)
    vault.learn(lambda: SOME_KEYS)
    assert vault.fingerprint(Secret("token")) == VAULT.fingerprint(Secret("token"))


def test_a_vault_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="an encryption key is"):
        Vault()


@pytest.mark.parametrize(
    "key",
    [b"", KEY[:31], KEY + b"x", KEY[:16], bytes(32), b"\xff" * 32, b"aaaaaaaabbbbbbbbccccccccdddddddd"],
    ids=["empty", "short", "long", "half", "zeros", "ones", "text of few letters"],
)
def test_an_unusable_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="an encryption key is 32 random bytes"):
        Vault(key)
