"""Who asks, and what he may."""

from dataclasses import FrozenInstanceError

import pytest

from service.domain.caller import KEY_PREFIX, RIGHTS, Caller, ClientKey, Peer, digest_of, owner
from service.domain.secret import Secret

NOW = 1_800_000_000.0


def key(accounts: frozenset[str] | None = None, expires_at: float | None = None) -> ClientKey:
    return ClientKey("ci", "0" * 64, frozenset({"token", "status"}), accounts, NOW - 10, expires_at)


def test_the_rights_are_these_and_no_others() -> None:
    assert RIGHTS == ("token", "headers", "status", "login", "admin")


def test_a_peer_of_whom_the_kernel_tells_nothing_is_nobody() -> None:
    assert Peer() == Peer(uid=None, is_unix=False)
    assert Peer() != Peer(uid=0)
    assert not Peer().is_unix


def test_the_owner_may_do_everything_everywhere() -> None:
    asked = owner(1000)
    assert asked == Caller("uid 1000", frozenset(RIGHTS), None)
    assert all(asked.may(right) for right in RIGHTS)
    assert asked.sees("default")
    assert asked.sees("work")


def test_a_caller_may_do_what_he_has_a_right_to() -> None:
    asked = Caller("key ci", frozenset({"token"}))
    assert [right for right in RIGHTS if asked.may(right)] == ["token"]


@pytest.mark.parametrize(
    ("accounts", "seen"),
    [(None, ["default", "work"]), (frozenset({"work"}), ["work"]), (frozenset[str](), [])],
    ids=["all", "one", "none"],
)
def test_a_caller_sees_his_accounts(accounts: frozenset[str] | None, seen: list[str]) -> None:
    asked = Caller("key ci", frozenset(RIGHTS), accounts)
    assert [account for account in ("default", "work") if asked.sees(account)] == seen


def test_a_key_stands_for_what_it_is_good_for() -> None:
    assert key(frozenset({"work"})).caller(NOW) == Caller("key ci", frozenset({"token", "status"}), frozenset({"work"}))
    assert key().caller(NOW) == Caller("key ci", frozenset({"token", "status"}), None)


def test_who_holds_a_key_is_known_for_it() -> None:
    held = key().caller(NOW)
    assert held is not None
    assert held.is_key
    assert not owner(1000).is_key
    assert not Caller("keystone", frozenset()).is_key


@pytest.mark.parametrize(("after", "is_good"), [(-1.0, True), (-0.001, True), (0.0, False), (1.0, False)])
def test_a_key_is_good_until_the_instant_it_expires(after: float, is_good: bool) -> None:
    assert (key(expires_at=NOW).caller(NOW + after) is not None) == is_good


def test_a_key_that_was_never_used_says_so() -> None:
    assert key().last_used_at is None
    assert key().expires_at is None


@pytest.mark.parametrize(
    ("value", "name"), [(owner(0), "rights"), (key(), "expires_at"), (Peer(), "uid")], ids=["caller", "key", "peer"]
)
def test_nobody_gets_more_than_he_was_given(value: object, name: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)
    with pytest.raises((AttributeError, TypeError)):
        setattr(value, "more", None)  # noqa: B010


def test_a_key_is_known_by_how_it_begins() -> None:
    """Scanners for leaked secrets look for it: as it is for ever."""
    assert KEY_PREFIX == "pixir_"


def test_what_is_kept_of_a_key_is_its_sha_256() -> None:
    """FIPS 180-2, appendix B.1."""
    assert digest_of(Secret("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
