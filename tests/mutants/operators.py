"""Every small way in which a module could be wrong: each mutant differs in one place, made on the syntax tree.

Sentences for people (texts with a space), docstrings, annotations and `slots=True` decide nothing and are left alone.
"""

import ast
import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final

COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
"""The opposite, and where there is one, the same with the boundary on the other side."""

ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}

_TYPES_ONLY: Final = frozenset({"annotation", "returns", "type_params", "type_comment"})
_DELETABLE: Final = (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise, ast.Assert, ast.Delete, ast.Continue, ast.Break)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A weaker module. `name` says what was changed in which function, and outlives a move of its lines."""

    line: int
    name: str
    code: CodeType


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node hangs, and in which function or class."""

    holder: Any
    key: Any
    node: ast.AST
    within: str

    def put(self, node: ast.AST) -> None:
        if isinstance(self.holder, list):
            self.holder[self.key] = node
        else:
            setattr(self.holder, self.key, node)


def mutants(source: str, file: str) -> Iterator[Mutant]:
    """Every mutant of a module that still compiles."""
    tree = ast.parse(source)
    for place in list(_places(tree, "")):
        for new in _variants(place.node, in_function=_in_function(place)):
            ast.fix_missing_locations(ast.copy_location(new, place.node))
            place.put(new)
            name = f"{place.within or 'module'}: {_text(place.node)} -> {_text(new)}"
            with contextlib.suppress(SyntaxError):  # a name that is not bound any more
                yield Mutant(getattr(place.node, "lineno", 0), name, compile(tree, file, "exec"))
            place.put(place.node)


def _in_function(place: _Place) -> bool:
    return place.within.endswith("()")


def _places(node: ast.AST, within: str) -> Iterator[_Place]:
    for key, value in ast.iter_fields(node):
        if key in _TYPES_ONLY:
            continue
        held = list(enumerate(value)) if isinstance(value, list) else [(key, value)]
        holder = value if isinstance(value, list) else node
        for at, child in held:
            if isinstance(child, ast.AST) and not _is_text(child) and not _is_slots(child):
                yield _Place(holder, at, child, within)
                yield from _places(child, _named(child, within))


def _named(node: ast.AST, within: str) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        outer = f"{within.removesuffix('()')}." if within else ""
        return f"{outer}{node.name}" + ("" if isinstance(node, ast.ClassDef) else "()")
    return within


def _is_text(node: ast.AST) -> bool:
    """A docstring, or the text below a constant that explains it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_slots(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and node.arg == "slots"


def _variants(node: ast.AST, *, in_function: bool) -> Iterator[ast.AST]:
    """What may stand in a node's place."""
    if in_function and isinstance(node, _DELETABLE):
        yield ast.Pass()
    yield from _of_conditions(node)
    yield from _of_values(node)
    yield from _of_blocks(node)


def _of_values(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Constant():
            yield from map(ast.Constant, _other_constants(node.value))
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        case ast.Call():
            for at in [at for at, one in enumerate(node.keywords) if not _is_slots(one)]:
                yield ast.Call(node.func, node.args, _without(node.keywords, at))
        case ast.Set() if len(node.elts) > 1:
            for at in range(len(node.elts)):
                yield ast.Set(_without(node.elts, at))
        case ast.Slice():
            yield from (_with(node, bound, None) for bound in ("lower", "upper") if getattr(node, bound))


def _of_blocks(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield ast.Return(ast.Constant(None))
        case ast.Return(value=None):
            yield ast.Pass()
        case ast.ExceptHandler():
            yield ast.ExceptHandler(node.type, node.name, [ast.Raise()])
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else []
            for at in range(len(caught)):
                yield ast.ExceptHandler(ast.Tuple(_without(caught, at), ast.Load()), node.name, node.body)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            for at in range(len(node.decorator_list)):
                yield _with(node, "decorator_list", _without(node.decorator_list, at))


def _of_conditions(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare():
            for at, op in enumerate(node.ops):
                for other in COMPARISONS[type(op)]:
                    yield ast.Compare(node.left, [*node.ops[:at], other(), *node.ops[at + 1 :]], node.comparators)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            for at in range(len(node.values)):
                left = _without(node.values, at)
                yield ast.BoolOp(node.op, left) if len(left) > 1 else left[0]
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.If() | ast.While() | ast.IfExp() if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
            if not isinstance(node.test, ast.Constant):
                yield _with(node, "test", ast.UnaryOp(ast.Not(), node.test))


def _other_constants(value: object) -> list[Any]:
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [value + 1, value - 1]
        case str() if " " not in value.strip():
            return [f"{value}x"]
        case bytes():
            return [value + b"x"]
    return []


def _with(node: ast.AST, name: str, value: object) -> ast.AST:
    new = copy.copy(node)
    setattr(new, name, value)
    return new


def _without(items: list[Any], at: int) -> list[Any]:
    return [*items[:at], *items[at + 1 :]]


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _text(node: ast.AST) -> str:
    """One short line."""
    match node:
        case ast.If() | ast.While():
            return f"{type(node).__name__.lower()} {ast.unparse(node.test)}"
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return " ".join(["@" + ast.unparse(one) for one in node.decorator_list] + [node.name])
        case ast.Slice():
            bounds = (ast.unparse(one) if one else "" for one in (node.lower, node.upper))
            return f"[{':'.join(bounds)}]"
        case ast.ExceptHandler():
            caught = ast.unparse(node.type) if node.type else ""
            return f"except {caught}: {ast.unparse(node.body[0])}"
    return " ".join(ast.unparse(node).split())
