"""A login under way runs out of time by itself, and shows nothing."""

from dataclasses import replace

import pytest

from service.domain.login import EXCHANGE_LIMIT, Login, LoginState, state_at
from service.domain.secret import Secret
from tests.domain.values import NOW

PENDING = Login("id", "default", "codex", "browser", created_at=NOW, expires_at=NOW + 900)


@pytest.mark.parametrize(("after", "state"), [(0, "pending"), (899.9, "pending"), (900, "expired"), (10**6, "expired")])
def test_a_pending_login_expires_with_its_time(after: float, state: LoginState) -> None:
    assert state_at(PENDING, NOW + after) == state


@pytest.mark.parametrize(
    ("after", "state"),
    [(0, "pending"), (EXCHANGE_LIMIT - 0.1, "pending"), (EXCHANGE_LIMIT, "failed"), (10**6, "failed")],
)
def test_a_login_that_somebody_took_and_did_not_finish_has_failed(after: float, state: LoginState) -> None:
    assert state_at(replace(PENDING, taken_at=NOW), NOW + after) == state


@pytest.mark.parametrize("state", ["complete", "failed", "expired", "cancelled"])
def test_a_login_that_has_ended_stays_as_it_ended(state: LoginState) -> None:
    ended = replace(PENDING, state=state, taken_at=NOW)
    assert {state_at(ended, NOW), state_at(ended, NOW + 901)} == {state}


def test_a_login_replaces_nobody_elses_unless_told_to() -> None:
    assert PENDING.replace is False


def test_repr_of_a_login_shows_no_secret() -> None:
    canary = Secret("canary")
    browser = replace(PENDING, oauth_state=canary, verifier=canary, binding=canary)
    device = replace(PENDING, user_code=canary, device_auth_id=canary)
    assert "canary" not in repr([browser, device])
