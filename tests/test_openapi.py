"""The OpenAPI document is what the service serves, and the file in the repository is that document."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from service.app import openapi_document
from service.domain.decide import Warning_
from service.domain.errors import Code, LoginReason
from service.sealing import Opener
from service.web.problems import STATUS
from tests.web.expect import told
from tests.web.home import client_key, home, install
from tests.web.routes import CALLS, called

FILE = Path(__file__).parent.parent / "openapi" / "openapi.json"
MEND = "run `pixir-auth openapi > openapi/openapi.json`"

PROMISED = {
    ("POST", "/login"),
    ("GET", "/login"),
    ("GET", "/login/{login_id}"),
    ("DELETE", "/login/{login_id}"),
    ("POST", "/login/{login_id}/callback"),
    ("GET", "/callback"),
    ("GET", "/auth/callback"),
    ("GET", "/status"),
    ("GET", "/accounts"),
    ("GET", "/"),
    ("GET", "/token"),
    ("GET", "/headers"),
    ("GET", "/forward-auth"),
    ("POST", "/oauth/token"),
    ("PUT", "/credential"),
    ("POST", "/logout"),
    ("POST", "/export"),
    ("POST", "/export/confirm"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/keys"),
    ("PUT", "/keys/{name}"),
    ("DELETE", "/keys/{name}"),
    ("GET", "/audit"),
    ("POST", "/rekey"),
    ("GET", "/backup"),
    ("POST", "/restore"),
    ("POST", "/restore/confirm"),
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_the_file_is_the_document(document: dict[str, Any]) -> None:
    written = json.dumps(document, indent=2, sort_keys=True) + "\n"
    assert FILE.read_text() == written, MEND


def test_the_document_is_the_same_every_time(document: dict[str, Any]) -> None:
    assert openapi_document() == document


def test_every_promised_endpoint_is_in_it(document: dict[str, Any]) -> None:
    assert set(operations(document)) >= PROMISED


def test_every_route_is_in_it_and_nothing_else(document: dict[str, Any]) -> None:
    told = {(method, called(path)) for method, path in operations(document)}
    assert told == set(CALLS)


def texts(node: Any) -> set[str]:
    """Every literal of an enumeration."""
    if isinstance(node, dict):
        here = set(map(str, node.get("enum", []))) | ({str(node["const"])} if "const" in node else set())
        return here.union(*map(texts, node.values()))
    return set().union(*map(texts, node)) if isinstance(node, list) else set()


def test_every_code_is_in_it_with_its_status(document: dict[str, Any]) -> None:
    told = document["components"]["schemas"]["Problem"]
    assert texts(told["properties"]["code"]) == set(get_args(Code))
    assert told["x-status"] == {code: STATUS[code][0] for code in sorted(STATUS)}


def test_every_code_is_in_it_with_the_status_that_a_proxy_is_told(document: dict[str, Any]) -> None:
    statuses = document["paths"]["/forward-auth"]["get"]["x-status"]
    assert statuses == {code: told("/forward-auth", STATUS[code][0]) for code in STATUS}


def test_every_reason_and_every_warning_is_in_it(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert texts(schemas["Problem"]["properties"]["reason"]) == set(get_args(LoginReason))
    assert texts(schemas["TokenAnswer"]["properties"]["warning"]) == set(get_args(Warning_))


def test_every_operation_may_answer_with_a_problem(document: dict[str, Any]) -> None:
    for (_, path), operation in operations(document).items():
        content = dict(operation["responses"]["default"]["content"])
        has_pages = content.pop("text/html", None) is not None
        kind, name = ("json", "OAuthError") if path == "/oauth/token" else ("problem+json", "Problem")
        assert content == {f"application/{kind}": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        assert has_pages == ("text/html" in operation["responses"].get("200", {}).get("content", {})), path
        assert "422" not in operation["responses"]


@pytest.mark.parametrize("path", ["/token", "/headers"])
def test_text_is_told_where_there_is_text(document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/plain"}


def test_account_is_a_parameter_wherever_a_credential_is_meant(document: dict[str, Any]) -> None:
    for path, method in [
        ("/token", "get"),
        ("/headers", "get"),
        ("/oauth/token", "post"),
        ("/status", "get"),
        ("/credential", "put"),
        ("/logout", "post"),
        ("/login", "get"),
        ("/export", "post"),
        ("/export/confirm", "post"),
    ]:
        (schema,) = [one["schema"] for one in document["paths"][path][method]["parameters"] if one["name"] == "account"]
        assert (schema["default"], schema["pattern"]) == ("default", "^[a-z0-9][a-z0-9._-]{0,62}$")


def fits(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """As much of JSON Schema as the document uses. Members that it does not tell do not fit."""
    if "$ref" in schema:
        return fits(value, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return any(fits(value, one, document) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    match schema["type"]:
        case "object":
            told = schema.get("properties", {})
            more = schema.get("additionalProperties", False)
            return isinstance(value, dict) and all(
                fits(member, told.get(name, more), document) if name in told or isinstance(more, dict) else False
                for name, member in value.items()
            ) and set(schema.get("required", ())) <= set(value)  # fmt: skip
        case "array":
            return isinstance(value, list) and all(fits(one, schema["items"], document) for one in value)
        case "integer":
            return type(value) is int
        case "null":
            return value is None
        case kind:
            return type(value) is {"string": str, "boolean": bool}[kind]


async def test_answers_are_as_the_document_says(document: dict[str, Any], tmp_path: Path) -> None:
    body = {"kind": "api_key", "api_key": "sk-1"}
    async with home(tmp_path) as h:
        await install(h)
        refresh = {"grant_type": "refresh_token", "refresh_token": await client_key(h, "codex")}
        device = (await h.client.post("/login", json={"flow": "device", "account": "other"})).json()
        calls: list[tuple[str, str, str, Any]] = [
            ("POST", "/login", "/login", {"account": "work"}),
            ("POST", "/login", "/login", {"account": "work", "flow": "device"}),
            ("GET", "/login", "/login", None),
            ("GET", "/login/{login_id}", f"/login/{device['id']}", None),
            ("GET", "/status", "/status", None),
            ("GET", "/accounts", "/accounts", None),
            ("GET", "/token", "/token", None),
            ("GET", "/headers", "/headers", None),
            ("GET", "/forward-auth", "/forward-auth?account=nobody", None),
            ("POST", "/oauth/token", "/oauth/token", refresh),
            ("POST", "/oauth/token", "/oauth/token?account=nobody", refresh),
            ("PUT", "/credential", "/credential?account=key", body),
            ("GET", "/token", "/token?account=key", None),
            ("POST", "/export", "/export", {"public_key": Opener().public_key}),
            ("POST", "/export", "/export", {"public_key": "x"}),
            ("POST", "/logout", "/logout", None),
            ("GET", "/token", "/token", None),
            ("GET", "/status", "/status?account=nobody", None),
            ("PUT", "/keys/{name}", "/keys/ci", {"digest": "0" * 64, "accounts": ["work"], "expires_in": 60}),
            ("PUT", "/keys/{name}", "/keys/ci", {"digest": "0" * 64}),
            ("GET", "/keys", "/keys", None),
            ("GET", "/audit", "/audit?limit=2", None),
            ("POST", "/rekey", "/rekey", None),
            ("POST", "/restore", "/restore", {"pixir_auth_backup": 1, "fingerprints": "AAAA"}),
            ("POST", "/restore/confirm", "/restore/confirm", None),
            ("GET", "/healthz", "/healthz", None),
            ("GET", "/readyz", "/readyz", None),
        ]
        for method, path, target, content in calls:
            answer = await h.client.request(method, target, json=content)
            responses = operations(document)[method, path]["responses"]
            told = responses.get(str(answer.status_code), responses["default"])["content"]
            assert fits(answer.json(), told[answer.headers["content-type"]]["schema"], document), answer.text
