"""The stand-in answers as the service does."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel

from service.web import schemas

from .fake import GOOD_URL, FakeService, api_key, login_required, nobody


def ask(fake: FakeService, method: str, target: str, body: Any = None) -> tuple[int, str, Any]:
    parts = urlsplit(fake.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    connection.request(method, target, None if body is None else json.dumps(body))
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers["Content-Type"], json.loads(content) if content else None


@pytest.mark.parametrize(
    ("method", "target", "body", "model"),
    [
        ("GET", "/token", None, schemas.TokenAnswer),
        ("GET", "/status", None, schemas.StatusAnswer),
        ("GET", "/status?account=nobody", None, schemas.StatusAnswer),
        ("GET", "/accounts", None, schemas.AccountsAnswer),
        ("POST", "/login", {}, schemas.LoginAnswer),
        ("POST", "/login", {"flow": "device"}, schemas.LoginAnswer),
        ("POST", "/logout", None, schemas.LoggedOutAnswer),
        ("PUT", "/credential", {"kind": "api_key"}, schemas.InstalledAnswer),
        ("GET", "/token?account=nobody", None, schemas.Problem),
        ("GET", "/headers?account=nobody", None, schemas.Problem),
        ("GET", "/elsewhere", None, schemas.Problem),
    ],
)
def test_answers_have_the_declared_shapes(
    fake: FakeService, method: str, target: str, body: Any, model: type[BaseModel]
) -> None:
    status, media_type, document = ask(fake, method, target, body)
    assert media_type == ("application/problem+json" if model is schemas.Problem else "application/json")
    assert (status >= 400) == (model is schemas.Problem)
    model.model_validate(document, strict=True, extra="forbid")


def test_what_its_makers_make_has_the_declared_shapes() -> None:
    for status in (api_key("a"), nobody("b")):
        schemas.StatusAnswer.model_validate(status, strict=True, extra="forbid")
    schemas.Problem.model_validate(login_required().body, strict=True, extra="forbid")


def test_headers_are_those_to_send(fake: FakeService) -> None:
    _, _, document = ask(fake, "GET", "/headers")
    assert document == {"Authorization": f"Bearer {fake.access_token}", "ChatGPT-Account-ID": "acct-1"}


def test_login_is_finished_by_the_pasted_address(fake: FakeService) -> None:
    _, _, login = ask(fake, "POST", "/login", {})
    path = f"/login/{login['id']}"
    assert ask(fake, "POST", f"{path}/callback", {"url": "http://localhost:1455/elsewhere"})[0] == 400
    assert ask(fake, "GET", path)[2]["state"] == "pending"
    assert ask(fake, "POST", f"{path}/callback", {"url": GOOD_URL})[2]["state"] == "complete"


def test_login_can_be_cancelled(fake: FakeService) -> None:
    _, _, login = ask(fake, "POST", "/login", {})
    path = f"/login/{login['id']}"
    assert ask(fake, "DELETE", path)[0] == 204
    ended = ask(fake, "GET", f"{path}?wait=60")[2]
    schemas.LoginAnswer.model_validate(ended, strict=True)
    assert (ended["state"], ended["error"]) == ("cancelled", "login_cancelled")
    assert ask(fake, "GET", "/login/other")[2]["code"] == "unknown_login"
