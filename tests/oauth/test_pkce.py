"""Verifiers and challenges are as RFC 7636 wants them."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.oauth.pkce import VERIFIER_BYTES, b64url, challenge, verifier
from tests.oauth.values import examples

APPENDIX_B = bytes(
    [
        *(116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186),
        *(22, 212, 37, 77, 105, 214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121),
    ]
)


def test_example_of_rfc_7636_appendix_b() -> None:
    assert verifier(APPENDIX_B) == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert challenge(verifier(APPENDIX_B)) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_thousand_verifiers_are_valid_and_different() -> None:
    chance = random.Random(7636)
    made = {verifier(chance.randbytes(VERIFIER_BYTES)) for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", one) for one in made)


def test_our_verifiers_have_more_than_256_bits_and_86_characters() -> None:
    assert VERIFIER_BYTES * 8 >= 256
    assert len(verifier(bytes(VERIFIER_BYTES))) == 86


@examples
@given(st.binary(max_size=31))
def test_too_little_randomness_is_refused(few: bytes) -> None:
    with pytest.raises(ValueError, match="32 random octets"):
        verifier(few)


@examples
@given(st.binary(min_size=32, max_size=96))
def test_a_challenge_is_43_characters_and_not_the_verifier(raw: bytes) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge(verifier(raw)))
    assert challenge(verifier(raw)) != verifier(raw)


@pytest.mark.parametrize(("raw", "text"), [(b"", ""), (b"\xff\xfe", "__4"), (b"\xfb\xff\xbf", "-_-_"), (b"a", "YQ")])
def test_base64url_has_no_padding(raw: bytes, text: str) -> None:
    assert b64url(raw) == text
