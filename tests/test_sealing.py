"""What is sealed for one process: nobody else opens it, and it is HPKE as RFC 9180 says, whoever computes it."""

import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.domain.secret import Secret
from service.sealing import Opener, Recipient

LOGIN = Secret('{"refresh_token":"a secret of a test"}')


def bits(text: str, at: int) -> str:
    """The text with one bit of what it encodes turned."""
    content = bytearray(base64.b64decode(text))
    content[at] ^= 1
    return base64.b64encode(content).decode()


def test_whoever_asked_opens_it() -> None:
    opener = Opener()
    assert opener.open(Recipient(opener.public_key).seal(LOGIN, "work"), "work") == LOGIN


def test_nobody_else_does_nor_for_another_account_nor_what_was_changed() -> None:
    opener = Opener()
    sealed = Recipient(opener.public_key).seal(LOGIN, "work")
    size = len(base64.b64decode(sealed))
    wrong = [(opener, bits(sealed, at), "work") for at in (0, 31, 32, size - 1)]
    for who, what, account in [(Opener(), sealed, "work"), (opener, sealed, "home"), (opener, "!", "work"), *wrong]:
        with pytest.raises(ValueError, match=r"^what was sealed does not open$"):
            who.open(what, account)


@pytest.mark.parametrize("junk", ["!", "\n", " "])
def test_what_is_no_base64_is_read_in_no_other_way(junk: str) -> None:
    opener = Opener()
    sealed = Recipient(opener.public_key).seal(LOGIN, "work")
    with pytest.raises(ValueError, match=r"does not open"):
        opener.open(junk + sealed, "work")
    with pytest.raises(ValueError, match=r".+"):
        Recipient(junk + opener.public_key)


def test_it_is_different_every_time_and_says_nothing() -> None:
    opener = Opener()
    several = {Recipient(opener.public_key).seal(LOGIN, "work") for _ in range(3)}
    assert len(several) == 3
    assert not [each for each in several if LOGIN.reveal().encode() in base64.b64decode(each)]
    assert Opener().public_key != opener.public_key


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        b"\x01" + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        b"short",
    ],
)
def test_a_point_that_keeps_nothing_secret_is_no_recipient(point: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Recipient(base64.b64encode(point).decode())


def test_it_is_what_rfc_9180_says() -> None:
    """Section 4 and 5.1.1, written down again: another program may open what the service seals."""
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    sealed = base64.b64decode(Recipient(base64.b64encode(public).decode()).seal(LOGIN, "work"))
    encapsulated, ciphertext = sealed[:32], sealed[32:]

    def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, hashlib.sha256)

    def expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
        told = length.to_bytes(2) + b"HPKE-v1" + suite + label + info
        return hmac.digest(key, told + b"\x01", hashlib.sha256)[:length]  # one block is enough

    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"
    agreed = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    shared = expand(kem, extract(kem, b"", b"eae_prk", agreed), b"shared_secret", encapsulated + public, 32)
    context = b"\x00" + extract(suite, b"", b"psk_id_hash", b"")
    context += extract(suite, b"", b"info_hash", b"pixir-auth export\x00work")
    secret = extract(suite, shared, b"secret", b"")
    key, nonce = expand(suite, secret, b"key", context, 32), expand(suite, secret, b"base_nonce", context, 12)
    assert AESGCM(key).decrypt(nonce, ciphertext, b"") == LOGIN.reveal().encode()
