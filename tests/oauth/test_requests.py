"""What is sent: exactly these parameters, in the body, and nothing of it in a URL or a log."""

import json
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.secret import Secret
from service.oauth import requests
from service.oauth.pkce import challenge
from service.oauth.provider import codex
from service.oauth.wire import Request
from tests.oauth.values import CODEX, examples

CLIENT = "app_EMoamEEZ73f0CkXaXp7hrann"
REDIRECT = "http://localhost:1455/auth/callback"
VERIFIER = "canary-verifier-0123456789-0123456789-012345"

EXCHANGE = requests.exchange(CODEX, code=Secret("canary-code"), redirect_uri=REDIRECT, verifier=Secret(VERIFIER))
REFRESH = requests.refresh(CODEX, Secret("canary-refresh"))
REVOKE = requests.revoke(CODEX, Secret("canary-refresh"))
USER_CODE = requests.user_code(CODEX)
DEVICE_POLL = requests.device_poll(CODEX, device_auth_id=Secret("canary-device"), user_code=Secret("canary-typed"))
ALL = [EXCHANGE, REFRESH, REVOKE, USER_CODE, DEVICE_POLL]


def authorization(state: str = "a-state") -> str:
    return requests.authorization_url(CODEX, redirect_uri=REDIRECT, state=Secret(state), verifier=Secret(VERIFIER))


def test_the_authorization_url_has_exactly_these_parameters() -> None:
    assert authorization().startswith("https://issuer.test/oauth/authorize?")
    assert dict(parse_qsl(urlsplit(authorization()).query, strict_parsing=True)) == {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": REDIRECT,
        "scope": "openid profile email offline_access api.connectors.read api.connectors.invoke",
        "code_challenge": challenge(VERIFIER),
        "code_challenge_method": "S256",
        "id_token_add_organizations": "true",
        "codex_cli_simplified_flow": "true",
        "originator": "codex_cli_rs",
        "state": "a-state",
    }


def test_no_parameter_of_the_authorization_url_is_repeated() -> None:
    assert all(len(values) == 1 for values in parse_qs(urlsplit(authorization()).query).values())


def test_the_authorization_url_does_not_hold_the_verifier() -> None:
    assert VERIFIER not in authorization()


@examples
@given(st.text(min_size=1))
def test_any_state_comes_back_as_it_was(state: str) -> None:
    url = authorization(state)
    assert url.isascii()
    assert parse_qs(urlsplit(url).query)["state"] == [state]


def test_an_exchange_is_a_form() -> None:
    assert (EXCHANGE.url, EXCHANGE.content_type) == (
        "https://issuer.test/oauth/token",
        "application/x-www-form-urlencoded",
    )
    assert parse_qsl(EXCHANGE.body.decode(), strict_parsing=True) == [
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT),
        ("code", "canary-code"),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ]


def test_a_refresh_is_json_and_asks_for_no_scope() -> None:
    assert (REFRESH.url, REFRESH.content_type) == ("https://issuer.test/oauth/token", "application/json")
    assert json.loads(REFRESH.body) == {
        "client_id": CLIENT,
        "grant_type": "refresh_token",
        "refresh_token": "canary-refresh",
    }


def test_a_revocation_is_json() -> None:
    assert (REVOKE.url, REVOKE.content_type) == ("https://issuer.test/oauth/revoke", "application/json")
    assert json.loads(REVOKE.body) == {
        "token": "canary-refresh",
        "token_type_hint": "refresh_token",
        "client_id": CLIENT,
    }


def test_a_user_code_is_asked_for_with_the_client_alone() -> None:
    assert (USER_CODE.url, USER_CODE.content_type) == (
        "https://issuer.test/api/accounts/deviceauth/usercode",
        "application/json",
    )
    assert json.loads(USER_CODE.body) == {"client_id": CLIENT}


def test_a_poll_names_the_device_login() -> None:
    assert (DEVICE_POLL.url, DEVICE_POLL.content_type) == (
        "https://issuer.test/api/accounts/deviceauth/token",
        "application/json",
    )
    assert json.loads(DEVICE_POLL.body) == {"device_auth_id": "canary-device", "user_code": "canary-typed"}


@pytest.mark.parametrize("request_", ALL, ids=lambda one: one.kind)
def test_no_secret_is_in_a_url(request_: Request) -> None:
    assert "canary" not in request_.url
    assert not urlsplit(request_.url).query


@pytest.mark.parametrize("request_", ALL, ids=lambda one: one.kind)
def test_repr_of_a_request_shows_no_body(request_: Request) -> None:
    assert "canary" not in repr(request_)
    assert "body" not in repr(request_)


def test_every_request_has_a_name_for_logs() -> None:
    assert [one.kind for one in ALL] == ["exchange", "refresh", "revoke", "user_code", "device_poll"]


@examples
@given(st.text())
def test_any_token_survives_the_body(token: str) -> None:
    assert json.loads(requests.refresh(CODEX, Secret(token)).body)["refresh_token"] == token
    body = requests.exchange(CODEX, code=Secret(token), redirect_uri=REDIRECT, verifier=Secret(VERIFIER)).body
    assert dict(parse_qsl(body.decode(), keep_blank_values=True))["code"] == token


@pytest.mark.parametrize("issuer", ["https://issuer.test", "https://issuer.test/", "https://issuer.test//"])
def test_a_trailing_slash_of_the_issuer_changes_nothing(issuer: str) -> None:
    assert codex(issuer) == CODEX


def test_where_a_person_types_a_device_code() -> None:
    assert CODEX.verification_uri == "https://issuer.test/codex/device"


def test_redirect_uris_are_those_the_issuer_knows() -> None:
    assert [CODEX.redirect_uri(port) for port in CODEX.callback_ports] == [
        "http://localhost:1455/auth/callback",
        "http://localhost:1457/auth/callback",
    ]
    assert CODEX.device_redirect_uri == "https://issuer.test/deviceauth/callback"


def test_a_spent_refresh_token_of_this_issuer_is_never_presented_again() -> None:
    assert CODEX.retry_within is None
