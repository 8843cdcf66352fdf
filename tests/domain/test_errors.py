"""The tree of errors is closed: every code is on the list, every reason has its words."""

from collections.abc import Iterator
from typing import get_args

import pytest

from service.domain.errors import (
    CODES,
    AuthError,
    InvalidRequest,
    IssuerUnavailable,
    LoginReason,
    LoginRequired,
    UnknownAccount,
)


def tree(root: type[AuthError]) -> Iterator[type[AuthError]]:
    """A class and everything below it."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("kind", list(tree(AuthError)), ids=lambda kind: kind.__name__)
def test_code_is_on_the_list(kind: type[AuthError]) -> None:
    assert kind.code in CODES


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in tree(AuthError)]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("reason", get_args(LoginReason))
def test_every_reason_is_said_in_words(reason: LoginReason) -> None:
    error = LoginRequired("work", reason)
    assert (error.account, error.reason) == ("work", reason)
    assert error.detail.endswith(".")
    assert str(error) == error.detail


def test_reasons_read_differently() -> None:
    said = {LoginRequired("work", reason).detail for reason in get_args(LoginReason)}
    assert len(said) == len(get_args(LoginReason))


def test_next_actions_are_those_of_the_kind_unless_given() -> None:
    assert UnknownAccount().next_actions == UnknownAccount.next_actions
    assert UnknownAccount.next_actions
    assert InvalidRequest("No.", next_actions=("Send less.",)).next_actions == ("Send less.",)


def test_retry_after_is_kept() -> None:
    assert InvalidRequest("No.").retry_after is None
    assert InvalidRequest("No.", retry_after=7).retry_after == 7


def test_whoever_must_come_back_is_told_when() -> None:
    assert IssuerUnavailable("Down.").retry_after == 5
    assert IssuerUnavailable("Down.", retry_after=7).retry_after == 7


@pytest.mark.parametrize("kind", [kind for kind in tree(AuthError) if kind.__init__ is not AuthError.__init__])
def test_errors_with_fixed_words_take_none_from_outside(kind: type[AuthError]) -> None:
    error = LoginRequired("work", "logged_out") if kind is LoginRequired else kind()  # type: ignore[call-arg]
    assert error.detail
