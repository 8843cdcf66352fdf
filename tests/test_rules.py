"""What the code of the service must not do, kept by reading its syntax: each rule bites on a sample, and spares one.

An exception is a file and the reason why it may; one that is not needed any more is reported too.
"""

import ast
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "service"

Finder = Callable[[ast.Module], Iterator[ast.AST]]


@dataclass(frozen=True)
class Rule:
    """Finds the nodes that break it. `allowed`: a file or folder below `service/` -> why it may."""

    find: Finder
    bad: tuple[str, ...]
    good: tuple[str, ...]
    allowed: dict[str, str] = field(default_factory=dict)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute; a call or anything else in it is `()`."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return f"{dotted(node.value)}.{node.attr}"
    return "()"


@functools.cache
def nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree))


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in nodes(tree) if isinstance(node, ast.Call))


@functools.cache
def origins(tree: ast.Module) -> dict[str, str]:
    """Name in a module -> what it was imported as, in full."""
    found = {}
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            found.update({one.asname or one.name: one.name for one in node.names})
        elif isinstance(node, ast.ImportFrom):
            found.update({one.asname or one.name: f"{node.module}.{one.name}" for one in node.names})
    return found


def called(tree: ast.Module, names: str) -> Iterator[ast.Call]:
    """Calls of what fits a pattern, whatever it is called here."""
    known = origins(tree)
    for call in calls(tree):
        first, _, rest = dotted(call.func).partition(".")
        full = ".".join(filter(None, (known.get(first, first), rest)))
        if re.fullmatch(names, full):
            yield call


def passing(**forbidden: bool) -> Finder:
    """Calls with a keyword of this truth."""

    def find(tree: ast.Module) -> Iterator[ast.AST]:
        for call in calls(tree):
            given = {one.arg: one.value for one in call.keywords if one.arg in forbidden}
            constants = {name: bool(value.value) for name, value in given.items() if isinstance(value, ast.Constant)}
            if constants.items() & forbidden.items():
                yield call

    return find


def calling(names: str) -> Finder:
    return lambda tree: called(tree, names)


def importing(names: str) -> Finder:
    def find(tree: ast.Module) -> Iterator[ast.AST]:
        for node in nodes(tree):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if any(re.fullmatch(names, module.partition(".")[0]) for module in modules):
                yield node

    return find


# -- SQL -------------------------------------------------------------------------------------------------------------


def built_sql(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements put together from anything but constants of the same module."""
    constants = _constants(tree)
    known = origins(tree)
    for call in calls(tree):
        name = dotted(call.func)
        is_text = known.get(name, "").startswith(("sqlalchemy.", "sqlmodel.")) and name.endswith("text")
        is_run = re.fullmatch(r".*\.(execute|executemany|executescript|exec_driver_sql|text)", name)
        if call.args and (is_text or is_run) and _is_built(call.args[0], constants):
            yield call


def _constants(tree: ast.Module) -> set[str]:
    """Names that a module binds once, to a literal."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Constant):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def _is_built(node: ast.AST, constants: set[str]) -> bool:
    match node:
        case ast.JoinedStr():
            parts = [one.value for one in node.values if isinstance(one, ast.FormattedValue)]
            return not all(isinstance(part, ast.Name) and part.id in constants for part in parts)
        case ast.BinOp(op=ast.Mod() | ast.Add()):
            sides = [side for side in (node.left, node.right) if not isinstance(side, ast.Constant)]
            return not all(isinstance(side, ast.Name) and side.id in constants for side in sides)
        case ast.Call(func=ast.Attribute(attr="format" | "format_map" | "join")):
            return True
    return False


# -- secrets ---------------------------------------------------------------------------------------------------------

_SECRET = re.compile(
    r"(.*_)?(token|secret|password|passphrase|key|verifier|digest|hexdigest|fingerprint|mac|hmac|signature)"
)


def compared_secrets(tree: ast.Module) -> Iterator[ast.AST]:
    """`==`, `!=` or `in` on what is named like a secret: `hmac.compare_digest` takes no longer for a near miss.

    What is compared with a literal is no secret, and in a condition on a column the database compares.
    """
    for node in nodes(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn):
            sides = [node.left, *node.comparators]
            literal = any(isinstance(side, ast.Constant) for side in sides)
            if any(map(_is_secret, sides)) and not literal and not any(map(_is_column, sides)):
                yield node


def _is_secret(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name == "reveal" or _SECRET.fullmatch(name) is not None
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name.islower() and _SECRET.fullmatch(name) is not None
        case ast.Tuple() | ast.List() | ast.Set():
            return any(map(_is_secret, node.elts))
    return False


def _is_column(node: ast.AST) -> bool:
    """`_C.name` or `col(_C.name)`: a table's class is an upper-case letter by the store's habit."""
    if isinstance(node, ast.Call):
        return dotted(node.func) == "col"
    return isinstance(node, ast.Attribute) and re.fullmatch(r"_?[A-Z]\w*", dotted(node.value)) is not None


def revealed(tree: ast.Module) -> Iterator[ast.AST]:
    return (call for call in calls(tree) if isinstance(call.func, ast.Attribute) and call.func.attr == "reveal")


_LOGS = re.compile(r"(.*[._])?(log|logger|logging)\.(debug|info|warning|error|critical|exception|log)")


def unsafe_logs(tree: ast.Module) -> Iterator[ast.AST]:
    """A log line whose text is built before the logger sees it, or that holds a revealed secret."""
    for call in calls(tree):
        if _LOGS.fullmatch(dotted(call.func)):
            inside = [node for argument in (*call.args, *call.keywords) for node in ast.walk(argument)]
            if any(map(_is_built_or_revealed, inside)):
                yield call


def _is_built_or_revealed(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.BinOp(op=ast.Mod()) | ast.Attribute(attr="reveal" | "format"):
            return True
    return False


_PUT_TOGETHER = re.compile(r"(.*\.)?(request|connection)\.(url\.path|base_url)")


def request_paths(tree: ast.Module) -> Iterator[ast.AST]:
    """`request.url.path` is put together from Host: a Host with `/?#` in it makes it another path than is routed."""
    attributes = (node for node in nodes(tree) if isinstance(node, ast.Attribute))
    return (node for node in attributes if _PUT_TOGETHER.fullmatch(dotted(node)))


RULES = {
    "issuers are verified": Rule(
        passing(verify=False), ("httpx.Client(verify=False)", "get(u, verify=0)"), ("httpx.Client(verify=context)",)
    ),
    "no context that believes anybody": Rule(
        calling(r"ssl\._create_unverified_context|ssl\._create_stdlib_context"),
        ("import ssl\nssl._create_unverified_context()",),
        ("import ssl\nssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)",),
    ),
    "no redirect is followed": Rule(
        passing(follow_redirects=True),
        ("httpx.get(u, follow_redirects=True)", "Client(follow_redirects=1)"),
        ("Client(follow_redirects=False)",),
    ),
    "the environment chooses no proxy": Rule(
        passing(trust_env=True), ("httpx.Client(trust_env=True)",), ("httpx.Client(trust_env=False)",)
    ),
    "no shell": Rule(
        passing(shell=True),
        ("subprocess.run(c, shell=True)", "Popen(c, shell=1)"),
        ("subprocess.run([c], shell=False)",),
    ),
    "no shell by another name": Rule(
        calling(r"os\.(system|popen)|subprocess\.(getoutput|getstatusoutput)|asyncio\.create_subprocess_shell"),
        ("import os\nos.system(c)", "from os import popen\npopen(c)", "import subprocess as s\ns.getoutput(c)"),
        ("import os\nos.getpid()", "def system(): ...\nsystem()"),
    ),
    "no code from data": Rule(
        calling(r"eval|exec|compile|__import__|builtins\.(eval|exec)"),
        ("eval(x)", "exec(code)", "__import__(name)"),
        ("re.compile(p)", "model.eval()", "ast.literal_eval(x)"),
    ),
    "no format that runs code": Rule(
        importing(r"pickle|marshal|shelve|dill|jsonpickle|yaml"),
        ("import pickle", "from marshal import loads", "import yaml", "def f():\n    from pickle import load"),
        ("import json", "from service import pickled"),
    ),
    "no random but random bytes of the system": Rule(
        importing("random"),
        ("import random", "from random import choice"),
        ("import secrets", "from service import random_names"),
        {"broker/seams.py": "jitter of the backoff, which nobody must not guess"},
    ),
    "no SQL put together": Rule(
        built_sql,
        (
            "c.execute(f'DELETE FROM t WHERE a = {a}')",
            "c.exec_driver_sql('DROP TABLE %s' % name)",
            "c.executescript('a' + name)",
            "from sqlalchemy import text\nc.execute(text('a {}'.format(b)))",
            "import sqlalchemy as sa\nsa.text(f'{x}')",
            "def f(LIMIT):\n    c.execute(f'LIMIT {LIMIT}')",
        ),
        (
            "c.execute('SELECT 1')",
            "c.execute(select(T).where(T.a == a))",
            "_CHANNEL: Final = 'x'\nc.execute(f'LISTEN {_CHANNEL}')",
            "def text(value): ...\ntext(f'{a}')",
            "from sqlalchemy import text\nc.execute(text('a = :a'), {'a': a})",
        ),
        {"store/sqlite.py": "PRAGMA and BEGIN take no parameters; the words are constants of that module"},
    ),
    "secrets are compared in constant time": Rule(
        compared_secrets,
        (
            "a.reveal() == b",
            "key.digest != digest",
            "sha256(a).hexdigest() == stored",
            "given in (row.key_digest, row.other)",
            "token == self._token",
            "mac(x) != sent",
        ),
        (
            "hmac.compare_digest(key.digest, digest)",
            "kind == 'token'",
            "token is None",
            "_C.refresh_fingerprint == token",
            "col(_C.key_digest) == digest",
            "key_id == other.key_id",
            "tokens == 3",
        ),
        {
            "store/credentials.py": "keyed fingerprints of what the service itself holds, and asked by nobody else",
        },
    ),
    "a secret is revealed where it is sent, sealed or shown to its owner": Rule(
        revealed,
        ("x = token.reveal()",),
        ("reveal(token)",),
        {
            "cli/client.py": "the client key, to the service",
            "cli/keys.py": "a new client key, to who has asked for it",
            "cli/handover.py": "reads the login that was given up to whoever asked",
            "cli/transfer.py": "reads the file of a login to send it, and writes the export that was asked for",
            "domain/caller.py": "the digest of a client key",
            "oauth/answers.py": "may it stand in a header",
            "oauth/claims.py": "reads the claims of a token",
            "oauth/imports.py": "the account id of a document",
            "oauth/requests.py": "the authorize URL and the challenge",
            "oauth/wire.py": "bodies of requests to the issuer",
            "sealing.py": "sealed for whoever asked",
            "store/backup.py": "the key of the fingerprints, for the codes that prove a backup",
            "store/rescue.py": "sealed in a rescue file",
            "store/vault.py": "sealed, or fingerprinted",
            "web/answers.py": "the token, to who may have it",
            "web/api.py": "the cookie that binds a login to a browser",
        },
    ),
    "no path from a URL that was made of headers": Rule(
        request_paths,
        ("request.url.path", "x = self.request.base_url", "connection.url.path"),
        ("request.scope['path']", "request.url.query", "url.path", "urlsplit(a).path"),
    ),
    "a log line is made by the logger, and holds no secret": Rule(
        unsafe_logs,
        (
            "log.warning(f'no {a}')",
            "log.info('a %s', token.reveal())",
            "access_log.log(level, f'{a}')",
            "logging.error('a %s' % a)",
            "self._log.debug('x', extra={'a': f'{b}'})",
        ),
        ("log.warning('no %s', a)", "math.log(f(x))", "print(f'{a}')"),
    ),
    "only commands print": Rule(
        calling(r"print|sys\.(stdout|stderr)\.write|pprint\.pprint"),
        ("print(1)", "import sys\nsys.stderr.write(x)"),
        ("file.write(x)", "console.print(x)"),
        {"cli": "what a command says", "sandbox/__main__.py": "a command too"},
    ),
}
"""Name of a law -> what breaks it."""


@functools.cache
def parsed(source: str) -> ast.Module:
    """Looked at by every rule, and changed by none."""
    return ast.parse(source)


def breaches(rule: Rule, source: str) -> list[int]:
    """Lines."""
    return sorted({getattr(node, "lineno", 0) for node in rule.find(parsed(source))})


@pytest.mark.parametrize("name", RULES)
def test_the_service_keeps_the_rule(name: str) -> None:
    rule = RULES[name]
    broken = {
        file.relative_to(ROOT).as_posix(): lines
        for file in sorted(ROOT.rglob("*.py"))
        if (lines := breaches(rule, file.read_text()))
    }
    may = {file for file in broken for allowed in rule.allowed if file == allowed or file.startswith(f"{allowed}/")}
    assert {file: lines for file, lines in broken.items() if file not in may} == {}
    unused = [one for one in rule.allowed if not any(file == one or file.startswith(f"{one}/") for file in broken)]
    assert unused == [], "an exception that nobody needs"


@pytest.mark.parametrize(("name", "sample"), [(name, sample) for name, rule in RULES.items() for sample in rule.bad])
def test_the_rule_bites(name: str, sample: str) -> None:
    assert breaches(RULES[name], sample)


@pytest.mark.parametrize(("name", "sample"), [(name, sample) for name, rule in RULES.items() for sample in rule.good])
def test_the_rule_spares_what_is_right(name: str, sample: str) -> None:
    assert breaches(RULES[name], sample) == []


def test_every_exception_has_a_reason() -> None:
    assert [(name, file) for name, rule in RULES.items() for file, reason in rule.allowed.items() if not reason] == []
