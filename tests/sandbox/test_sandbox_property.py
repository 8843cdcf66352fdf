"""Laws of rotation, whatever the order of events."""

from hypothesis import given, settings
from hypothesis import strategies as st

from service.sandbox.errors import OAuthError
from service.sandbox.grants import Grants
from service.sandbox.knobs import CODEX_CLIENT_ID, Knobs, User
from service.sandbox.mint import Mint
from service.sandbox.values import Ended, Login, Terms

policies = st.builds(
    Knobs,
    rotate=st.booleans(),
    revoke_family=st.booleans(),
    retry_window=st.sampled_from([0, 3, 100]),
    refresh_lifetime=st.sampled_from([None, 10]),
)
# (which of the tokens seen so far, seconds that pass before it is presented, revoke first?)
steps = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4), st.integers(0, 15)), max_size=25)


class Model:
    """One family under an arbitrary schedule, and every refresh token ever handed out."""

    def __init__(self, knobs: Knobs) -> None:
        self.grants = Grants(Mint())
        self.knobs = knobs
        self.at = 1_000_000.0
        family = self.grants.issue(Login(User(), CODEX_CLIENT_ID), self.terms())
        self.id = family.id
        self.seen = [family.refresh_token]

    def terms(self) -> Terms:
        return Terms(self.at, "http://localhost:8123", self.knobs)

    def present(self, token: str) -> bool:
        """Whether it was honoured."""
        try:
            tokens = self.grants.refresh(token, CODEX_CLIENT_ID, None, self.terms())
        except OAuthError:
            return False
        if tokens.refresh_token not in self.seen:
            self.seen.append(tokens.refresh_token)
        return True

    def live(self) -> list[str]:
        """The refresh tokens that would be honoured with something new, tried on a copy each."""
        return [token for token in self.seen if self._would_advance(token)]

    def _would_advance(self, token: str) -> bool:
        before = self.grants.families[self.id]
        counts = self.grants.refresh_count, self.grants.retry_count, self.grants.reuse_count
        seen = list(self.seen)
        self.present(token)
        advanced = self.grants.families[self.id].generation > before.generation
        self.grants.families[self.id] = before
        self.grants.refresh_count, self.grants.retry_count, self.grants.reuse_count = counts
        self.seen = seen
        return advanced


@settings(max_examples=50, deadline=None)
@given(policies, steps)
def test_at_most_one_live_refresh_token_per_family(knobs: Knobs, schedule: list[tuple[int, int, int]]) -> None:
    model = Model(knobs)
    for pick, wait, dice in schedule:
        model.at += wait
        if dice == 0:
            model.grants.end(model.id, Ended.REVOKED)
        model.present(model.seen[pick % len(model.seen)])
        live = model.live()
        assert len(live) <= 1
        assert set(live) <= {model.grants.families[model.id].refresh_token}


@settings(max_examples=50, deadline=None)
@given(policies, steps)
def test_the_dead_stay_dead(knobs: Knobs, schedule: list[tuple[int, int, int]]) -> None:
    model = Model(knobs)
    for pick, wait, _ in schedule:
        model.at += wait
        model.present(model.seen[pick % len(model.seen)])
    model.grants.end(model.id, Ended.SESSION_TERMINATED)
    assert not any([model.present(token) for token in list(model.seen)])  # noqa: C419 - present them all


@settings(max_examples=50, deadline=None)
@given(steps)
def test_every_presentation_is_counted_once(schedule: list[tuple[int, int, int]]) -> None:
    model = Model(Knobs(retry_window=3, revoke_family=False))
    for pick, wait, _ in schedule:
        model.at += wait
        model.present(model.seen[pick % len(model.seen)])
    counted = model.grants.refresh_count + model.grants.reuse_count + model.grants.retry_count
    assert counted == len(schedule)
    assert model.grants.families[model.id].generation == 1 + model.grants.refresh_count
