"""A Secret is never seen, whatever is done to it but `reveal`."""

import copy
import dataclasses
import io
import json
import logging
import pickle
import traceback
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.secret import Secret
from tests.domain.values import credential, examples

CANARY = "canary-7f3a"
MASK = "Secret(**********)"


def shown(secret: Secret) -> list[str]:
    """Every way Python has of making text of a value."""
    return [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        f"{secret!s}",
        ascii(secret),
    ]


def test_text_of_a_secret_is_a_mask() -> None:
    assert set(shown(Secret(CANARY))) == {MASK}


@examples
@given(st.text(min_size=3))
def test_text_of_a_secret_does_not_depend_on_it(value: str) -> None:
    assert shown(Secret(value)) == shown(Secret(""))


def test_format_specification_is_refused() -> None:
    with pytest.raises(TypeError) as refused:
        f"{Secret(CANARY):>40}"
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "holder", [[Secret(CANARY)], {"token": Secret(CANARY)}, credential(access_token=Secret(CANARY))]
)
def test_text_of_whatever_holds_a_secret_is_masked(holder: object) -> None:
    assert CANARY not in repr(holder)
    assert MASK in repr(holder)


def test_vars_has_nothing_to_show() -> None:
    with pytest.raises(TypeError):
        vars(Secret(CANARY))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copy_is_the_same_object(duplicate: object) -> None:
    secret = Secret(CANARY)
    assert duplicate(secret) is secret  # type: ignore[operator]


def test_a_credential_as_a_dictionary_keeps_its_secrets_wrapped() -> None:
    assert CANARY not in repr(dataclasses.asdict(credential(refresh_token=Secret(CANARY))))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "held", [Secret(CANARY), credential(access_token=Secret(CANARY))], ids=["alone", "in a credential"]
)
def test_pickle_is_refused_and_nothing_is_written(held: object, protocol: int) -> None:
    written = io.BytesIO()
    with pytest.raises(TypeError) as refused:
        pickle.Pickler(written, protocol).dump(held)
    assert CANARY not in str(refused.value)
    assert CANARY.encode() not in written.getvalue()


def test_json_is_refused() -> None:
    with pytest.raises(TypeError) as refused:
        json.dumps({"token": Secret(CANARY)})
    assert CANARY not in str(refused.value)


def test_a_log_line_shows_the_mask(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("any").warning("sent %s of %r", Secret(CANARY), credential(access_token=Secret(CANARY)))
    assert CANARY not in caplog.text
    assert MASK in caplog.text


def test_a_traceback_with_locals_shows_the_mask() -> None:
    def failing(token: Secret) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError) as raised:
        failing(Secret(CANARY))
    text = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    assert f"token = {MASK}" in text


def test_reveal_gives_the_text() -> None:
    assert Secret(CANARY).reveal() == CANARY


@examples
@given(st.text(), st.text())
def test_secrets_are_equal_when_their_texts_are(left: str, right: str) -> None:
    assert (Secret(left) == Secret(right)) is (left == right)
    assert Secret(left) == Secret(left)
    assert hash(Secret(left)) == hash(Secret(left))


def test_a_secret_is_not_equal_to_its_text() -> None:
    assert Secret(CANARY) != CANARY
    assert hash(Secret(CANARY)) != hash(CANARY)


def test_what_is_no_secret_has_a_say_in_whether_it_is_equal() -> None:
    assert Secret(CANARY) == ANY


def test_only_an_empty_secret_is_false() -> None:
    assert Secret("0")
    assert not Secret("")
