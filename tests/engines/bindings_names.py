"""Which names of TensorRT the sources use: attributes are followed from the module and from annotations on.

Knows the names of one release from its file in `bindings/`, which tells what each member gives: so a method of an
execution context is looked up in that class, however the source came by the context.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field
from pathlib import Path

FILES = sorted((Path(__file__).parent / "bindings").glob("*.json"))
# Annotations by which the sources pass a module around.
_MODULES = {"TensorRT": "tensorrt", "TensorRTRTX": "tensorrt_rtx"}


@dataclass(frozen=True)
class Type:
    """What an expression is: a module, a class or an object of the library, or an object of a class of the sources."""

    #: "module", "class", "object" or "own".
    kind: str
    library: str
    name: str = ""


@dataclass
class Release:
    """The names of one release."""

    library: str
    version: str
    module: dict[str, str]
    classes: dict[str, dict]

    @classmethod
    def read(cls, file: Path) -> Release:
        return cls(**json.loads(file.read_text()))

    def __str__(self) -> str:
        return f"{self.library} {self.version}"

    def member(self, name: str, attribute: str) -> str | None:
        """Return the name of the class of what a member gives, "" where it is not known; None without such a member."""
        entry = self.classes[name]
        if attribute in entry["members"]:
            return entry["members"][attribute]
        found = (self.member(base, attribute) for base in entry["bases"])
        return next((value for value in found if value is not None), None)


@dataclass
class Found:
    """What was found in the sources."""

    #: Names in use, such as "Builder" and "IExecutionContext.execute_async_v3", by library.
    used: dict[str, set[str]] = field(default_factory=lambda: {"tensorrt": set(), "tensorrt_rtx": set()})
    #: Those that the release does not have.
    missing: set[str] = field(default_factory=set)
    #: Attributes, with their lines, of things that the library gave and whose class is not known.
    unknown: set[str] = field(default_factory=set)


def read_sources(files: list[Path]) -> list[ast.Module]:
    return [ast.parse(file.read_text(), filename=file.name) for file in files]


def find(trees: list[ast.Module], release: Release, rtx: Release) -> Found:
    """Look up every name of TensorRT in sources for which the module `tensorrt` is `release`."""
    found = Found()
    own = _Own(trees)
    # What methods keep in `self` is known after the first round, and used in the second.
    for results in (Found(), found):
        for tree in trees:
            _Reader({"tensorrt": release, "tensorrt_rtx": rtx}, own, results).visit(tree)
    return found


class _Own:
    """Classes and functions of the sources themselves."""

    def __init__(self, trees: list[ast.Module]) -> None:
        nodes = [node for tree in trees for node in ast.walk(tree)]
        self.attributes: dict[str, dict[str, Type]] = {
            node.name: {} for node in nodes if isinstance(node, ast.ClassDef)
        }
        self.returns = {
            node.name: kind
            for node in nodes
            if isinstance(node, ast.FunctionDef) and (kind := self.annotated(node.returns)) is not None
        }

    def annotated(self, node: ast.expr | None) -> Type | None:
        """Return the type that an annotation names."""
        match node:
            case ast.Constant(value=str(text)):
                return self.annotated(ast.parse(text, mode="eval").body)
            case ast.Name(id=name) if name in _MODULES:
                return Type("module", _MODULES[name])
            case ast.Name(id=name) if name in self.attributes:
                return Type("own", "", name)
            case ast.Attribute(value=ast.Name(id="tensorrt" | "tensorrt_rtx" as library), attr=name):
                return Type("object", library, name)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self.annotated(left) or self.annotated(right)
        return None


class _Reader(ast.NodeVisitor):
    """Follows one module's names, function by function."""

    def __init__(self, releases: dict[str, Release], own: _Own, found: Found) -> None:
        self._releases = releases
        self._own = own
        self._found = found
        self._scopes: list[dict[str, Type]] = [{}]
        self._class: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._class.append(node.name)
        self.generic_visit(node)
        self._class.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        scope = dict(self._scopes[-1])
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            scope.pop(argument.arg, None)
            if argument.arg == "self" and self._class:
                scope["self"] = Type("own", "", self._class[-1])
            elif (kind := self._own.annotated(argument.annotation)) is not None:
                scope[argument.arg] = kind
        self._scopes.append(scope)
        for statement in node.body:
            self.visit(statement)
        self._scopes.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        kind = self._type(node.value)
        for target in node.targets:
            self.visit(target)
            self._bind(target, kind)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
        self._bind(node.target, self._own.annotated(node.annotation))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        self._attribute(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        match node:  # getattr and hasattr ask for what only one library has
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[thing, ast.Constant(value=str(name)), *_]):
                kind = self._type(thing)
                if kind is not None and kind.kind in ("module", "object"):
                    self._look_up(Type(kind.kind, "tensorrt_rtx", kind.name), name)

    def _bind(self, target: ast.expr, kind: Type | None) -> None:
        match target:
            case ast.Name(id=name):
                self._scopes[-1].pop(name, None)
                if kind is not None:
                    self._scopes[-1][name] = kind
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if kind is not None and self._class:
                self._own.attributes[self._class[-1]][name] = kind

    def _type(self, node: ast.expr) -> Type | None:
        """Return what an expression is, where it is of the library or of the sources' classes."""
        match node:
            case ast.Name(id=name):
                return self._scopes[-1].get(name)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Call(func=ast.Name(id="cast"), args=[named, _]):
                return self._own.annotated(named)
            case ast.Call(func=ast.Name(id=name)) if name in self._own.attributes:
                return Type("own", "", name)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in self._own.returns:
                return self._own.returns[name]
            case ast.Call(func=function):
                kind = self._type(function)
                # A class gives an object; a method is noted under what it gives already.
                return Type("object", kind.library, kind.name) if kind is not None and kind.kind == "class" else kind
            case ast.IfExp(body=body, orelse=other):
                return self._type(body) or self._type(other)
            case ast.BoolOp(values=values):
                return next((kind for value in values if (kind := self._type(value)) is not None), None)
        return None

    def _attribute(self, node: ast.Attribute) -> Type | None:
        base = self._type(node.value)
        if base is None:
            return None
        if base.kind == "own":
            return self._own.attributes.get(base.name, {}).get(node.attr)
        if node.attr.startswith("__"):
            return None
        if not base.name and base.kind != "module":
            self._found.unknown.add(f"{ast.unparse(node)} (line {node.lineno})")
            return None
        return self._look_up(base, node.attr)

    def _look_up(self, base: Type, attribute: str) -> Type | None:
        release = self._releases[base.library]
        used = f"{base.name}.{attribute}" if base.name else attribute
        self._found.used[base.library].add(used)
        given = release.module.get(attribute) if base.kind == "module" else release.member(base.name, attribute)
        if given is None:
            self._found.missing.add(f"{base.library}.{used}")
            return None
        if given and given not in release.classes:  # a plain class of Python
            return None
        nested = f"{base.name}.{attribute}" if base.name else attribute
        kind = "class" if given == nested else "object"
        return Type(kind, base.library, given)
