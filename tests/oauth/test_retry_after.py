"""Retry-After is read as seconds or a date, and nonsense as nothing (RFC 9110 section 10.2.3)."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.backoff import RETRY_AFTER_CAP, backoff
from service.oauth.answers import retry_after
from service.oauth.wire import Answer
from tests.oauth.values import NOW, answer, examples


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        ("120", 120),
        (" 120 ", 120),
        ("007", 7),
        ("1000000000", 1e9),
        ("Fri, 15 Jan 2027 08:00:00 GMT", 0),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 120),
        ("Friday, 15-Jan-27 08:02:00 GMT", 120),
        ("Fri, 15 Jan 2027 10:02:00 +0200", 120),
        ("Fri, 15 Jan 2027 07:59:59 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
    ],
)
def test_seconds_and_dates(value: str, seconds: float) -> None:
    assert retry_after(answer(429, retry_after=value), now=NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "-1",
            "-1000000000",
            "1.5",
            "1e3",
            "0x10",
            "½",
            "٣",
            "²",
            "120s",
            "soon",
            "nan",
            "inf",
            "\x00",
            "1\n2",
        ),
        *(
            "Fri, 32 Jan 2027 08:00:00 GMT",
            "Fri, 15 Foo 2027 08:00:00 GMT",
            "Fri, 15 Jan 2027 25:61:61 GMT",
            "Fri,",
            ",",
        ),
        *(
            "Fri, 15 Jan 2027 08:00:00 +9999",
            "Fri, 15 Jan 2027 08:00:00 +" + "9" * 400,
            "9" * 20 + " Jan 2027 08:00 GMT",
        ),
        *(
            "Fri, 15 Jan 99999999999999999999 08:00:00 GMT",
            "Fri, 31 Dec 10000 00:00:00 GMT",
            "15 Jan",
            ":",
            "::",
            "(",
            '"',
        ),
    ],
)
def test_nonsense_is_nothing(value: str) -> None:
    assert retry_after(answer(429, retry_after=value), now=NOW) == 0


def test_no_header_is_nothing() -> None:
    assert retry_after(answer(429), now=NOW) == 0


digits = st.from_regex(r"[0-9]{0,25}", fullmatch=True)
dates = st.builds(
    "{}{} {} {} {}:{}:{} {}".format,
    st.sampled_from(["", "Fri, ", "Friday, ", "x, "]),
    digits,
    st.sampled_from(["Jan", "january", "Feb", "13", "", "GMT"]),
    digits,
    digits,
    digits,
    digits,
    st.sampled_from(["GMT", "UTC", "EST", "+0000", "-9999", "+", "Z"]) | digits.map("+{}".format),
)


@examples
@given(st.text() | dates | digits | st.integers(0, 9).map(lambda digit: str(digit) * 5000))
@example("9" * 5000)
def test_no_value_raises_or_is_negative_or_endless(value: str) -> None:
    seconds = retry_after(Answer(429, b"", {"retry-after": value}), now=NOW)
    assert 0 <= seconds < math.inf


@pytest.mark.parametrize(
    ("value", "at_least", "at_most"),
    [
        ("120", 120, 132),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 120, 132),
        ("1000000000", RETRY_AFTER_CAP, RETRY_AFTER_CAP * 1.1),
        ("9" * 400, RETRY_AFTER_CAP, RETRY_AFTER_CAP * 1.1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_CAP, RETRY_AFTER_CAP * 1.1),
        ("-5", 0.5, 1),
        ("soon", 0.5, 1),
    ],
)
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_the_pause_obeys_it_up_to_the_cap(value: str, at_least: float, at_most: float, jitter: float) -> None:
    asked = retry_after(answer(429, retry_after=value), now=NOW)
    assert at_least <= backoff(0, jitter, at_least=asked) <= at_most
