"""What a browser brings back is read strictly: one code or one error, one state, or it is nothing of ours."""

from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.secret import Secret
from service.oauth.callback import Callback, read_callback, read_pasted
from tests.oauth.values import examples

GOOD = Callback(Secret("s"), Secret("c"))

READ: dict[str, tuple[str, Callback]] = {
    "code": ("code=c&state=s", GOOD),
    "code after state": ("state=s&code=c", GOOD),
    "as the issuer sends it": (
        "code=ac_1.x&scope=openid+profile+email+offline_access&state=s",
        Callback(Secret("s"), Secret("ac_1.x")),
    ),
    "error": ("error=access_denied&state=s", Callback(Secret("s"), error="access_denied")),
    "error with a description": (
        "error=access_denied&error_description=%3Cscript%3E%0D%0ASet-Cookie%3Ax&state=s",
        Callback(Secret("s"), error="access_denied"),
    ),
    "empty error beside a code": ("code=c&error=&state=s", GOOD),
    "empty code beside an error": ("code=&error=e&state=s", Callback(Secret("s"), error="e")),
    "iss": (
        "code=c&state=s&iss=https%3A%2F%2Fissuer.test",
        Callback(Secret("s"), Secret("c"), iss="https://issuer.test"),
    ),
    "empty iss": ("code=c&state=s&iss=", Callback(Secret("s"), Secret("c"), iss="")),
    "tokens of the implicit grant": ("code=c&state=s&access_token=a&id_token=i&refresh_token=r", GOOD),
    "unknown, repeated": ("code=c&state=s&x=1&x=2&scope=a&scope=b", GOOD),
    "unknown, without a value": ("code=c&x&state=s&=y&&", GOOD),
    "percent and plus": ("code=a%2Bb+c&state=%C3%A9", Callback(Secret("é"), Secret("a+b c"))),
    "incomplete percent": ("code=100%&state=%zz", Callback(Secret("%zz"), Secret("100%"))),
    "long": (f"code={'c' * 100_000}&state=s", Callback(Secret("s"), Secret("c" * 100_000))),
    "code with markup": ("code=%3Cb%3E&state=s", Callback(Secret("s"), Secret("<b>"))),
}

NOT_OURS: dict[str, str] = {
    "nothing": "",
    "no state": "code=c",
    "empty state": "code=c&state=",
    "no code and no error": "state=s",
    "empty code": "code=&state=s",
    "empty code and empty error": "code=&error=&state=s",
    "code and error": "code=c&error=access_denied&state=s",
    "two codes": "code=a&code=b&state=s",
    "the same code twice": "code=c&code=c&state=s",
    "two states": "code=c&state=s&state=t",
    "an empty state and a state": "code=c&state=&state=s",
    "two errors": "error=a&error=b&state=s",
    "two descriptions": "error=a&error_description=x&error_description=y&state=s",
    "two issuers": "code=c&state=s&iss=a&iss=b",
    "the same name written differently": "code=a&%63ode=b&state=s",
    "not UTF-8": "code=%FF%FE&state=s",
    "not UTF-8 in a name": "code=c&state=s&%FF=1",
    "overlong UTF-8": "code=%C0%80&state=s",
    "surrogate in UTF-8": "code=%ED%A0%80&state=s",
    "more parameters than anybody sends": "code=c&state=s" + "&x=1" * 31,
    "other capitals": "Code=c&State=s",
    "semicolons": "code=c;state=s",
    "a token alone": "access_token=a&state=s",
}


@pytest.mark.parametrize("case", READ)
def test_callback_is_read(case: str) -> None:
    query, callback = READ[case]
    assert read_callback(query) == callback


@pytest.mark.parametrize("case", NOT_OURS)
def test_callback_that_cannot_be_ours_is_none(case: str) -> None:
    assert read_callback(NOT_OURS[case]) is None


def test_as_many_parameters_as_are_read() -> None:
    assert read_callback("code=c&state=s" + "&x=1" * 30) == GOOD


@pytest.mark.parametrize(
    "pasted",
    [
        "http://localhost:1455/auth/callback?code=c&state=s",
        "http://127.0.0.1:1457/auth/callback?code=c&state=s",
        "https://elsewhere.example/?code=c&state=s",
        "localhost:1455/auth/callback?code=c&state=s",
        "/auth/callback?code=c&state=s",
        "?code=c&state=s",
        "code=c&state=s",
        "  http://localhost:1455/auth/callback?code=c&state=s\r\n",
        "http://localhost:1455/auth/callback?code=c&state=s#",
        "http://localhost:1455/auth/callback?code=c&state=s#fragment",
        "http://localhost:1455/auth/callback?code=\nc&sta\nte=s",
    ],
)
def test_a_pasted_address_is_read_like_a_callback(pasted: str) -> None:
    assert read_pasted(pasted) == GOOD


@pytest.mark.parametrize(
    "pasted",
    [
        *("", " ", "?", "#", "http://", "http://[", "http://[::1", "hello"),
        *("http://localhost:1455/auth/callback", "http://localhost:1455/auth/callback#code=c&state=s"),
        *("http://localhost:1455/auth/callback?code=c", "http://localhost:1455/?code=a&code=b&state=s"),
        *("http://℀.example/?code=c&state=s", "\x00", "code=%FF&state=s"),
    ],
)
def test_a_pasted_text_that_is_no_callback_is_none(pasted: str) -> None:
    assert read_pasted(pasted) is None


@pytest.mark.parametrize("query", [query for query, _ in READ.values()])
def test_a_pasted_address_means_what_its_query_means(query: str) -> None:
    assert read_pasted(f"http://localhost:1455/auth/callback?{query}") == read_callback(query)


def test_repr_of_a_callback_shows_no_code_and_no_state() -> None:
    shown = repr(read_callback("code=canary&state=canary"))
    assert "canary" not in shown


queries = (
    st.text()
    | st.binary().map(lambda raw: raw.decode("latin-1"))
    | st.lists(
        st.tuples(
            st.sampled_from(["code", "state", "error", "error_description", "iss", "access_token", "x"]),
            st.text() | st.sampled_from(["", "s", "%FF", "\ud800"]),
        )
    ).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))
)


@examples
@given(queries)
@example("%" * 10_000)
@example("code=\ud800&state=\udfff")
@example("&" * 10_000)
def test_nothing_a_browser_brings_raises(query: str) -> None:
    for callback in (
        read_callback(query),
        read_pasted(query),
        read_pasted("http://localhost:1455/auth/callback?" + query),
    ):
        assert callback is None or (callback.state and (callback.code is None) is not (callback.error is None))


@examples
@given(st.text(min_size=1), st.text(min_size=1))
def test_every_code_and_state_survive_the_way(code: str, state: str) -> None:
    query = urlencode({"state": state, "code": code})
    assert read_callback(query) == read_pasted("?" + query) == Callback(Secret(state), Secret(code))
