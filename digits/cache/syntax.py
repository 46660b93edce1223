"""Reads Python syntax trees: their text without formatting, and everything they refer to."""

import ast
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# A dotted name as written in the code: `models.build_cnn` is ("models", "build_cnn").
Chain = tuple[str, ...]
# Resolves a chain that leads out of the project ("functools.cache", "builtins.len").
Canonical = Callable[[Chain], str | None]

# `kind` is the u of u""; `ctx` follows from the parent.
_WITHOUT_MEANING = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_ANNOTATIONS = frozenset({"annotation", "returns"})
_LONGEST_NAME = 255

NUM_TRIES = 100

# What uses names or code that cannot be resolved statically, or reads docstrings or source text.
_OPAQUE = frozenset(
    {
        "builtins.__doc__",
        "builtins.__import__",
        "builtins.eval",
        "builtins.exec",
        "builtins.globals",
        "importlib.__import__",
        "importlib.import_module",
        "importlib.util.module_from_spec",
        "importlib.util.spec_from_file_location",
        "inspect.getcomments",
        "inspect.getdoc",
        "inspect.getsource",
        "inspect.getsourcelines",
        "runpy.run_module",
        "runpy.run_path",
        "sys.modules",
    }
)
_OPAQUE_ATTRIBUTES = frozenset({"__doc__", "__subclasses__"})


@dataclass(frozen=True)
class Target:
    """What an import binds: a module or, with `attribute`, that attribute of the module."""

    level: int
    module: str
    attribute: str | None = None


@dataclass(frozen=True)
class Parsed:
    """One statement: its text, and what it refers to.

    `bindings` are the names that import statements inside it bind, `executed` the modules that they
    import. `hazards` are (line, name) of code that cannot be resolved statically.
    """

    text: str
    chains: frozenset[Chain]
    bindings: tuple[tuple[str, Target], ...]
    executed: tuple[Target, ...]
    strings: frozenset[str]
    hazards: tuple[tuple[int, str], ...]


def parse(source: bytes | str) -> ast.Module:
    """Parse Python; retry if another thread built a syntax tree at the same time.

    Python 3.11 then raises SystemError in one of the threads (gh-106905), and the other may belong
    to Prefect, TensorFlow or NumPy. Raises SyntaxError or ValueError.
    """
    for _ in range(NUM_TRIES - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)


def chain_of(node: ast.AST) -> Chain | None:
    """Return the dotted name that an expression consists of, or None if it is something else."""
    attributes = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


def is_idle(node: object) -> bool:
    """Return whether a node does nothing: `pass`, a docstring or another bare constant."""
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def bindings_of(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Target]]:
    """Yield the names that an import statement binds and their targets; "*" for a star import."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, Target(node.level, node.module or "", alias.name)
        elif alias.asname:
            yield alias.asname, Target(0, alias.name)
        else:
            top = alias.name.partition(".")[0]
            yield top, Target(0, top)


def executed_by(node: ast.Import | ast.ImportFrom) -> Iterator[Target]:
    """Yield the modules that an import statement runs."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield Target(node.level, node.module or "", alias.name)
        else:
            yield Target(0, alias.name)


def read(node: ast.AST, canonical: Canonical) -> Parsed:
    """Read one statement. `canonical` resolves the names of its module."""
    reader = _Reader()
    reader.walk(node)
    return Parsed(
        text="\n".join(reader.words),
        chains=frozenset(chain for chain, _ in reader.mentions),
        bindings=tuple(reader.bindings),
        executed=tuple(reader.executed),
        strings=frozenset(reader.strings),
        hazards=tuple(reader.hazards(canonical)),
    )


class _Reader:
    """Serializes a tree in preorder, without recursion: generated code can nest deeply."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.mentions: list[tuple[Chain, int]] = []
        self.bindings: list[tuple[str, Target]] = []
        self.executed: list[Target] = []
        self.strings: set[str] = set()
        self._opaque: list[tuple[int, str]] = []

    def walk(self, root: object, *, in_annotation: bool = False) -> None:
        stack = [root]
        while stack:
            item = stack.pop()
            if isinstance(item, ast.AST):
                self.words.append(type(item).__name__)
                stack.extend(reversed(self._enter(item, in_annotation)))
            elif isinstance(item, list):
                kept = [one for one in item if not is_idle(one)]
                self.words.append(f"[{len(kept)}")
                stack.extend(reversed(kept))
            else:
                self.words.append(repr(item))

    def _enter(self, node: ast.AST, in_annotation: bool) -> list[object]:
        """Record `node` and return the children that have yet to be read."""
        match node:
            case ast.Name():
                self.mentions.append(((node.id,), node.lineno))
                self.words.append(node.id)
                return []
            case ast.Constant():
                self._constant(node, in_annotation)
                return []
            case ast.Attribute():
                return self._attribute(node)
            case ast.Import() | ast.ImportFrom():
                self.bindings += bindings_of(node)
                self.executed += executed_by(node)
        return self._children(node)

    def _children(self, node: ast.AST) -> list[object]:
        children = []
        for field in node._fields:
            value = getattr(node, field, None)
            if field in _ANNOTATIONS:
                self.walk(value, in_annotation=True)
            elif field not in _WITHOUT_MEANING:
                children.append(value)
        return children

    def _attribute(self, node: ast.Attribute) -> list[object]:
        if node.attr in _OPAQUE_ATTRIBUTES:
            self._opaque.append((node.lineno, node.attr))
        chain = chain_of(node)
        if chain is None:
            return [node.value, node.attr]
        self.mentions.append((chain, node.lineno))
        self.words.append(".".join(chain))
        return []

    def _constant(self, node: ast.Constant, in_annotation: bool) -> None:
        value: object = node.value
        # Python itself refuses to write very long integers in decimal.
        shown = hex(value) if type(value) is int else repr(value)
        self.words.append(f"{type(value).__name__} {shown}")
        if isinstance(value, str):
            if len(value) <= _LONGEST_NAME:
                self.strings.add(value)
            if in_annotation:
                self._quoted(value, node.lineno)

    def _quoted(self, annotation: str, line: int) -> None:
        """Record the names in a quoted annotation."""
        try:
            tree = parse(annotation.strip())
        except (SyntaxError, ValueError):
            return
        for node in ast.walk(tree):
            chain = chain_of(node)
            if chain is not None:
                self.mentions.append((chain, line))

    def hazards(self, canonical: Canonical) -> Iterator[tuple[int, str]]:
        """Yield the lines with something that cannot be resolved statically, and its name."""
        yield from self._opaque
        for chain, line in self.mentions:
            names = {canonical(chain) or "", *self._imported(chain)} & _OPAQUE
            if names:
                yield line, min(names)

    def _imported(self, chain: Chain) -> Iterator[str]:
        """The full names that a chain has through import statements in the same statement."""
        for name, target in self.bindings:
            if name == chain[0] and target.level == 0:
                attribute = () if target.attribute is None else (target.attribute,)
                yield ".".join((target.module, *attribute, *chain[1:]))
