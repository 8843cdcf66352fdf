"""Whatever a soak must not see is found in its history, and what may be is not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.soak.history import Answered, Ended, Fault, History, Installed, Lost, Sent, check, concerning, excuse

LABEL = "account-0.1"


def sound() -> History:
    """One login, refreshed twice, and one caller who has seen it."""
    return History(
        installed=[Installed(0, "account-0", LABEL, 1, "at-0")],
        sent=[sent(0, at=10, granted="at-1"), sent(1, at=20, granted="at-2")],
        answered=[answered(5, 1, "at-0"), answered(15, 2, "at-1"), answered(25, 3, "at-2")],
        final=[Ended("account-0", LABEL, 3, 2, True)],
        issued={LABEL: 2},
    )


def lost(*sends: Sent, faults: tuple[Fault, ...] = ()) -> History:
    """A login that was lost after two good refreshes and these sends of its third refresh token."""
    history = sound()
    history.sent += sends
    history.faults += faults
    history.lost = [Lost(90, "account-0", LABEL, 3, "refresh_token_reused")]
    history.final = []
    history.issued = {LABEL: history.granted(LABEL)}
    return history


def sent(ordinal: int, at: float, granted: str | None = None, **more: Any) -> Sent:
    return replace(Sent(1, LABEL, ordinal, at, status=200, granted=granted, until=at + 0.1), **more)


def answered(at: float, generation: int, token: str, **more: Any) -> Answered:
    return replace(
        Answered(at - 0.1, at, 0, 1, "account-0", 200, generation=generation, token=token),
        **more,
    )


def test_a_sound_history_has_no_violation() -> None:
    assert check(sound()) == []


WRONG: dict[str, Callable[[History], None]] = {
    "not granted": lambda h: h.answered.append(answered(24.9, 3, "forged")),
    "not granted to account-1": lambda h: h.answered.append(answered(24.9, 3, "at-2", account="account-1")),
    "served as another generation": lambda h: h.answered.append(answered(24.9, 4, "at-2")),
    "had expired": lambda h: h.answered.append(answered(25.3, 3, "at-2")),
    "generation went back from 3": lambda h: h.answered.append(answered(24.9, 2, "at-1")),
    "nothing explains": lambda h: h.answered.append(answered(24.9, 0, "", status=500)),
    "code='login_required'": lambda h: h.answered.append(answered(24.9, 0, "", status=409, code="login_required")),
    "code='ReadTimeout'": lambda h: h.answered.append(answered(24.9, 0, "", status=0, code="ReadTimeout")),
    "after its successor": lambda h: h.sent.append(sent(0, at=30)),
    "spent more than once": lambda h: h.sent.append(sent(1, at=30, granted="at-3")),
    "at a time": lambda h: h.sent.append(sent(1, at=20.05)),
    "without need": lambda h: h.sent.append(sent(1, at=30)),
    "sent once": lambda h: h.sent.append(sent(2, at=30, status=400)),
    "the issuer granted 7": lambda h: h.issued.update({LABEL: 7}),
    "alive=False": lambda h: setattr(h.final[0], "alive", False),
    "does not stand": lambda h: setattr(h.final[0], "generation", 2),
    "in the soak itself": lambda h: h.errors.append("in the soak itself"),
}


@pytest.mark.parametrize("found", WRONG)
def test_what_is_wrong_is_found(found: str) -> None:
    history = sound()
    WRONG[found](history)
    assert any(found in violation for violation in check(history)), check(history)


def test_a_pair_that_is_not_stored_yet_does_not_bind_the_other_replicas() -> None:
    history = sound()
    history.sent[1] = sent(1, at=12, granted="at-2")
    history.answered = [answered(13, 3, "at-2", warning="store_unavailable"), answered(14, 2, "at-1", slot=2)]
    assert check(history) == []


def test_silence_of_a_stopped_replica_is_explained() -> None:
    history = sound()
    history.answered.append(answered(24.9, 0, "", status=0, code="ReadTimeout", disturbed="lock,stop"))
    assert check(history) == []


RESET = sent(2, at=30, status=None, fault="reset", destroyed=True)
DROPPED = sent(2, at=30, granted="at-3", fault="drop", destroyed=True)
RETRIED = sent(2, at=50, status=400)
KILL = Fault("kill", 1, 30.5, 30.6)

EXCUSED = {
    "answer destroyed by drop": lost(DROPPED, RETRIED),
    "killed after sending": lost(sent(2, at=30, granted="at-3"), RETRIED, faults=(KILL,)),
    "answer came too late": lost(sent(2, at=30, granted="at-3", until=36), RETRIED),
    "answer destroyed by reset and answer destroyed by swallow, unspent": lost(
        RESET, sent(2, at=50, status=None, fault="swallow", destroyed=True)
    ),
}


@pytest.mark.parametrize("why", EXCUSED)
def test_a_loss_that_nobody_could_have_prevented_is_excused(why: str) -> None:
    history = EXCUSED[why]
    assert excuse(history, history.lost[0]) == why
    assert check(history) == []


INEXCUSABLE = {
    "nothing was sent": lost(),
    "the answer arrived": lost(sent(2, at=30, granted="at-3")),
    "another replica was killed": lost(sent(2, at=30, granted="at-3"), faults=(replace(KILL, slot=2),)),
    "killed long after": lost(sent(2, at=30, granted="at-3"), faults=(replace(KILL, at=80, until=80.1),)),
    "only stopped, and late for that": lost(
        sent(2, at=30, granted="at-3", until=36), faults=(Fault("stop", 1, 30, 36),)
    ),
    "given up after one": lost(RESET),
    "refused without a cause": lost(sent(2, at=30, status=400)),
}


@pytest.mark.parametrize("why", INEXCUSABLE)
def test_any_other_loss_is_not(why: str) -> None:
    history = INEXCUSABLE[why]
    assert any("without excuse" in violation for violation in check(history))


def test_what_befell_a_login_is_told_with_the_faults_of_that_time() -> None:
    history = lost(DROPPED, RETRIED, faults=(KILL, Fault("lock", None, 900, 901)))
    assert concerning(history, LABEL) == [*history.installed, *sound().sent, DROPPED, KILL, RETRIED, *history.lost]
