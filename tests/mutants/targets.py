"""The modules whose mutants are counted: what each is tested by, and which of its mutants are the same program.

A new module that decides is one more entry. Tests are run in the order given: the ones that find most come first.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Target:
    """A module of the service, and files or node ids below `tests/`. `equivalent`: mutant's name -> why it is one."""

    module: str
    tests: tuple[str, ...]
    equivalent: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Its source."""
        return (_ROOT / self.module.replace(".", "/")).with_suffix(".py")


_FIRST: Final = "a look at the first letter spares a regular expression, and decides nothing"

TARGETS: Final = (
    Target(
        "service.domain.secret",
        ("domain/test_secret.py",),
        {"Secret.__hash__(): 'Secret' -> 'Secretx'": "any text that is not a Secret's own does"},
    ),
    Target("service.domain.caller", ("domain/test_caller.py",)),
    Target(
        "service.web.callers",
        ("web/test_guard_alone.py", "web/test_callers.py"),
        {
            "Callers.recognise(): 6 -> 7": "the space before a key is stripped in any case",
            "Callers._holder(): 0 -> -1": "there is exactly one by then",
        },
    ),
    Target(
        "service.web.oauth",
        ("web/test_oauth_token.py", "web/test_guard_alone.py"),
        {"oauth_error(): 500 -> 499": "no problem has that status"},
    ),
    Target(
        "service.store.vault",
        ("store/test_vault.py",),
        {
            "_derived(): HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b'pixir-auth ' + purpose)"
            " -> HKDF(algorithm=SHA256(), length=KEY_BYTES, info=b'pixir-auth ' + purpose)": "no salt is the default",
        },
    ),
    Target(
        "service.sealing",
        ("test_sealing.py",),
        {"Recipient.__init__(): b'' -> b'x'": "what is sealed there is thrown away"},
    ),
    Target(
        "service.web.guard",
        (
            *("web/test_guard_alone.py", "web/test_required_header.py", "web/test_late_body.py"),
            *("web/test_guard.py", "web/test_http.py"),
        ),
        {
            "refusal(): 0 -> -1": "there is exactly one Host by then",
            "_content_type(): 0 -> -1": "there is exactly one by then",
            "asker_of(): name[:1] in b'fvx' and _FORWARDING.match(name) -> _FORWARDING.match(name)": _FIRST,
            "asker_of(): 1 -> 0": _FIRST,
            "asker_of(): b'fvx' -> b'fvxx'": _FIRST,
        },
    ),
)
