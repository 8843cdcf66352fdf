"""Secrets on disk: in no file and in no encoding, whatever is done with them."""

import base64
import secrets
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from service.domain.credential import Identity, Tokens, left_uncertain, rotated
from service.domain.secret import Secret
from service.store.store import Store

from .samples import KEY, NOW, OTHER_KEY, attempt, browser_login, credential, device_login, open_store, query


class Canaries:
    """Secrets that occur nowhere else."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def secret(self) -> Secret:
        """A new one: long enough to be found, with characters that encodings change."""
        self.texts.append(f"c4n~ry/{secrets.token_urlsafe(24)}+")
        return Secret(self.texts[-1])

    def found_in(self, folder: Path) -> list[tuple[str, str]]:
        """Which of them stand in which file below a folder, in any of the encodings."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        contents = {path.name: path.read_bytes() for path in files}
        return [
            (name, text)
            for name, content in contents.items()
            for text in self.texts
            if any(form in content for form in encodings(text))
        ]


def encodings(text: str) -> list[bytes]:
    """A text as it may stand in a file; base64 at each of the three places in a group where it may begin."""
    plain = text.encode()
    base64s = [
        encode(b"\0" * shift + plain)[4 if shift else 0 :][:24]
        for encode in (base64.b64encode, base64.urlsafe_b64encode)
        for shift in range(3)
    ]
    wide = [text.encode(codec) for codec in ("utf-16-le", "utf-16-be")]
    return [plain, quote(text, safe="").encode(), plain.hex().encode(), plain.hex().upper().encode(), *base64s, *wide]


def test_a_canary_is_found_in_every_encoding(tmp_path: Path) -> None:
    canaries = Canaries()
    text = canaries.secret().reveal()
    forms = [
        text.encode(),
        quote(text, safe="").encode(),
        text.encode().hex().encode(),
        text.encode("utf-16"),
        *(base64.b64encode(b"x" * shift + text.encode() + b"y") for shift in range(4)),
        *(base64.urlsafe_b64encode(b"x" * shift + text.encode() + b"y") for shift in range(4)),
    ]
    for number, form in enumerate(forms):
        (tmp_path / f"{number}").write_bytes(b"noise " + form + b" noise")
    assert len(canaries.found_in(tmp_path)) == len(forms)


async def a_life(store: Store, canaries: Canaries) -> None:
    """Everything that a store is ever asked to keep."""

    def tokens() -> dict[str, Secret]:
        return {name: canaries.secret() for name in ("access_token", "refresh_token", "id_token")}

    for account in ("default", "other", "dead"):
        await store.install(credential(account, **tokens()))
    seen = await store.load("default")
    assert seen is not None
    claim = await store.claim(seen, attempt())
    assert claim is not None
    after = rotated(claim, Tokens(**tokens()), sent_at=NOW, now=NOW, wait=0)
    await store.settle(claim, after)
    claim = await store.claim(after, attempt("second"))
    assert claim is not None
    await store.settle(claim, left_uncertain(claim, "read_timeout", now=NOW, until=NOW))
    await store.add_login(
        browser_login(oauth_state=canaries.secret(), verifier=canaries.secret(), binding=canaries.secret())
    )
    state = canaries.secret()
    login = browser_login("login-2", oauth_state=state, verifier=canaries.secret())
    await store.add_login(login)
    await store.take_login(state, canaries.secret(), NOW, bound=False)
    await store.complete_login(login, credential(**tokens()))
    await store.add_login(
        device_login("login-3", "other", user_code=canaries.secret(), device_auth_id=canaries.secret())
    )
    await store.forget("dead")


async def test_no_secret_is_in_any_file(tmp_path: Path) -> None:
    canaries = Canaries()
    store = open_store(f"sqlite:{tmp_path / 'data' / 'x.db'}")
    await a_life(store, canaries)
    assert len(canaries.texts) == 23
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"x.db", "x.db-wal", "x.db-shm"}
    assert canaries.found_in(tmp_path) == []
    await store.close()
    assert canaries.found_in(tmp_path) == []


async def test_neither_key_is_in_any_file(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'data' / 'x.db'}", KEY)
    await store.install(credential())
    await store.close()
    store = open_store(f"sqlite:{tmp_path / 'data' / 'x.db'}", OTHER_KEY, KEY)
    await store.rekey()
    await store.close()
    content = (tmp_path / "data" / "x.db").read_bytes()
    forms = [form for key in (KEY, OTHER_KEY) for form in (key, key.hex().encode(), base64.b64encode(key))]
    assert not [form for form in forms if form in content]


async def test_equal_tokens_look_different(tmp_path: Path) -> None:
    """What did not change, or what two accounts share, cannot be told from the file."""
    address = f"sqlite:{tmp_path / 'data' / 'x.db'}"
    store = open_store(address)
    same = Secret("one and the same token")
    for account in ("one", "other"):
        await store.install(credential(account, access_token=same, id_token=same))
    await store.close()
    content = (tmp_path / "data" / "x.db").read_bytes()
    vault_head = store._vault.first.head
    sealed = [content[at : at + 48] for at in range(len(content)) if content.startswith(vault_head, at)]
    assert len(sealed) == len(set(sealed)) == 7  # and the key of the fingerprints


async def test_what_is_not_secret_stays_readable(tmp_path: Path) -> None:
    """Where a token does not open, it can still be seen whose login this was."""
    address = f"sqlite:{tmp_path / 'data' / 'x.db'}"
    store = open_store(address)
    stored = await store.install(credential(identity=Identity("acc-9", "who@example.test", "plus")))
    await store.close()
    query(address, "UPDATE credential SET refresh_token_sealed = x'00'")
    other = open_store(address)
    seen = await other.load("default")
    await other.close()
    assert seen == replace(
        stored,
        state="unreadable",
        last_error="credential_unreadable",
        access_token=None,
        refresh_token=None,
        id_token=None,
    )
