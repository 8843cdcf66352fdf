"""Bodies are read tolerantly and shown to nobody."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.oauth.wire import Answer, NoAnswer, NotSent, Request, parse_object
from tests.oauth.values import anything, examples

NOT_OBJECTS = {
    "empty": b"",
    "white space": b" \n",
    "truncated": b'{"access_token": "a',
    "trailing garbage": b'{"a": 1} and more',
    "two objects": b'{"a": 1}{"b": 2}',
    "list": b'[{"access_token": "a"}]',
    "text": b'"invalid_grant"',
    "number": b"3600",
    "null": b"null",
    "html": b"<!doctype html><title>Sign in to the network</title>",
    "form": b"error=invalid_grant",
    "latin-1": '{"error": "déjà vu"}'.encode("latin-1"),
    "utf-16": '{"error": "invalid_grant"}'.encode("utf-16"),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV*\xcb",
    "deep": b'{"a":' * 100_000,
    "deep list": b"[" * 100_000 + b"]" * 100_000,
    "number of more digits than Python reads": b'{"expires_in": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("body", NOT_OBJECTS.values(), ids=list(NOT_OBJECTS))
def test_what_is_no_object_is_none(body: bytes) -> None:
    assert parse_object(body) is None


@pytest.mark.parametrize(
    ("body", "members"),
    [
        (b"{}", {}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b' \r\n{"a": 1}\n', {"a": 1}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": "é\u2028"}'.encode(), {"a": "é\u2028"}),
    ],
    ids=["empty", "byte-order mark", "white space", "repeated member", "unicode"],
)
def test_objects_are_read(body: bytes, members: dict[str, object]) -> None:
    assert parse_object(body) == members


@examples
@given(st.binary() | anything.map(json.dumps).map(str.encode))
def test_no_body_is_too_strange(body: bytes) -> None:
    assert isinstance(parse_object(body), dict | None)


def test_repr_of_what_travels_shows_no_content() -> None:
    shown = repr([Answer(200, b"canary", {"set-cookie": "canary"}), Request("refresh", "https://x", "text", b"canary")])
    assert "canary" not in shown
    assert "200" in shown


def test_what_did_not_travel_says_why() -> None:
    assert "ConnectError" in repr(NotSent("ConnectError"))
    assert "ReadTimeout" in repr(NoAnswer("ReadTimeout"))
