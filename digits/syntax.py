"""What a piece of Python syntax says: its text without formatting, and all that it refers to."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# A dotted name as it stands in the code: `models.build_cnn` is ("models", "build_cnn").
Chain = tuple[str, ...]
# The full name of a chain that leads out of the project ("functools.cache", "builtins.len").
Canonical = Callable[[Chain], str | None]

# `kind` is the u of u"", `ctx` follows from the parent, type comments do nothing when run.
_WITHOUT_MEANING = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_ANNOTATIONS = frozenset({"annotation", "returns"})
_LONGEST_NAME = 255

_IMPORTERS = frozenset({"importlib.import_module", "importlib.__import__", "builtins.__import__"})
_OPAQUE = frozenset(
    {
        "builtins.eval",
        "builtins.exec",
        "importlib.util.module_from_spec",
        "importlib.util.spec_from_file_location",
        "inspect.getcomments",
        "inspect.getsource",
        "inspect.getsourcelines",
        "runpy.run_module",
        "runpy.run_path",
    }
)
_NAMESPACES = frozenset({"builtins.globals", "builtins.locals", "sys.modules"})
_NAMESPACES_WITHOUT_ARGUMENT = frozenset({"builtins.dir", "builtins.vars"})
_DOCUMENTATION = frozenset({"__doc__", "getdoc"})


@dataclass(frozen=True)
class Target:
    """What an import binds: a module, or with `attribute` what that module calls so."""

    level: int
    module: str
    attribute: str | None = None


@dataclass(frozen=True)
class Reading:
    """One statement: its text, and what it refers to.

    `bindings` are the names that its own import statements give, `executed` the modules that these
    import, `whole` modules that it may use in ways that cannot be followed by name. `hazards` are
    (line, what) of code that cannot be followed at all. `shows_docs`: docstrings are data here.
    """

    text: str
    chains: frozenset[Chain]
    bindings: tuple[tuple[str, Target], ...]
    executed: tuple[Target, ...]
    whole: tuple[Target, ...]
    strings: frozenset[str]
    hazards: tuple[tuple[int, str], ...]
    uses_namespace: bool
    shows_docs: bool


def chain_of(node: ast.AST) -> Chain | None:
    """The dotted name that an expression is, if it is one."""
    attributes = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


def is_idle(node: object) -> bool:
    """Whether this is a statement that does nothing: `pass`, a docstring, another bare constant."""
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def bindings_of(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Target]]:
    """The names that an import statement gives and what each stands for; "*" for a star."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, Target(node.level, node.module or "", alias.name)
        elif alias.asname:
            yield alias.asname, Target(0, alias.name)
        else:
            top = alias.name.partition(".")[0]
            yield top, Target(0, top)


def executed_by(node: ast.Import | ast.ImportFrom) -> Iterator[Target]:
    """The modules that an import statement runs."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield Target(node.level, node.module or "", alias.name)
        else:
            yield Target(0, alias.name)


def text_of(node: ast.AST, *, keeps_docs: bool) -> str:
    """The text of a node, on request with its docstrings."""
    reader = _Reader(keeps_docs=keeps_docs)
    reader.walk(node)
    return "\n".join(reader.words)


def read(node: ast.AST, canonical: Canonical) -> Reading:
    """Read one statement. `canonical` knows what the names of its module stand for."""
    reader = _Reader(keeps_docs=False)
    reader.walk(node)
    chains = frozenset(chain for chain, _ in reader.mentions)
    meanings = {chain: reader.meaning(chain, canonical) for chain in chains}
    whole, hazards = reader.dynamic_imports(meanings)
    parts = {part for chain in chains for part in chain} | reader.attributes | reader.strings
    return Reading(
        text="\n".join(reader.words),
        chains=chains,
        bindings=tuple(reader.bindings),
        executed=tuple(reader.executed),
        whole=tuple(whole),
        strings=frozenset(reader.strings),
        hazards=tuple(hazards),
        uses_namespace=reader.uses_namespace(meanings),
        shows_docs=not _DOCUMENTATION.isdisjoint(parts),
    )


class _Reader:
    """Writes a tree down in preorder, without recursion: generated code can nest deeply."""

    def __init__(self, *, keeps_docs: bool) -> None:
        self.words: list[str] = []
        self.mentions: list[tuple[Chain, int]] = []
        self.calls: list[tuple[Chain, ast.Call]] = []
        self.bindings: list[tuple[str, Target]] = []
        self.executed: list[Target] = []
        self.strings: set[str] = set()
        self.attributes: set[str] = set()
        self.subclasses: list[int] = []
        self._keeps_docs = keeps_docs

    def walk(self, root: object, *, in_annotation: bool = False) -> None:
        stack = [root]
        while stack:
            item = stack.pop()
            if isinstance(item, ast.AST):
                self.words.append(type(item).__name__)
                stack.extend(reversed(self._enter(item, in_annotation)))
            elif isinstance(item, list):
                kept = item if self._keeps_docs else [one for one in item if not is_idle(one)]
                self.words.append(f"[{len(kept)}")
                stack.extend(reversed(kept))
            else:
                self.words.append(repr(item))

    def _enter(self, node: ast.AST, in_annotation: bool) -> list[object]:
        """Note what `node` says and return those of its children that are still to be read."""
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
            case ast.Call():
                chain = chain_of(node.func)
                if chain is not None:
                    self.calls.append((chain, node))
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
            elif field == "type_comment" and value is not None:
                self._quoted(value, getattr(node, "lineno", 0))
            elif field not in _WITHOUT_MEANING:
                children.append(value)
        return children

    def _attribute(self, node: ast.Attribute) -> list[object]:
        if node.attr == "__subclasses__":
            self.subclasses.append(node.lineno)
        chain = chain_of(node)
        if chain is None:
            self.attributes.add(node.attr)
            return [node.value, node.attr]
        self.mentions.append((chain, node.lineno))
        self.words.append(".".join(chain))
        return []

    def _constant(self, node: ast.Constant, in_annotation: bool) -> None:
        value: object = node.value
        # Decimal digits of very long integers are refused by Python itself.
        shown = hex(value) if type(value) is int else repr(value)
        self.words.append(f"{type(value).__name__} {shown}")
        if isinstance(value, str):
            if len(value) <= _LONGEST_NAME:
                self.strings.add(value)
            if in_annotation:
                self._quoted(value, node.lineno)

    def _quoted(self, annotation: str, line: int) -> None:
        """Note the names in an annotation that stands in quotes or in a comment."""
        mode = "func_type" if annotation.startswith("(") and "->" in annotation else "eval"
        try:
            tree = ast.parse(annotation.strip(), mode=mode)
        except (SyntaxError, ValueError):
            return
        for node in ast.walk(tree):
            chain = chain_of(node)
            if chain is not None:
                self.mentions.append((chain, line))

    def meaning(self, chain: Chain, canonical: Canonical) -> frozenset[str]:
        """The full names outside the project that a chain may stand for in this statement."""
        found = {canonical(chain)}
        for name, target in self.bindings:
            if name == chain[0] and target.level == 0:
                attribute = () if target.attribute is None else (target.attribute,)
                found.add(".".join((target.module, *attribute, *chain[1:])))
        return frozenset(name for name in found if name is not None)

    def dynamic_imports(
        self, meanings: dict[Chain, frozenset[str]]
    ) -> tuple[list[Target], list[tuple[int, str]]]:
        """The modules imported by a name in quotes, and what cannot be followed."""
        found: list[Target] = []
        hazards = [(line, "__subclasses__") for line in self.subclasses]
        understood: list[tuple[Chain, int]] = []
        for chain, call in self.calls:
            if not meanings[chain].isdisjoint(_IMPORTERS):
                target = _imported_by(call)
                if target is not None:
                    found.append(target)
                    understood.append((chain, call.func.lineno))
        for mention in self.mentions:
            chain, line = mention
            if mention in understood:
                understood.remove(mention)
            elif names := meanings[chain] & (_IMPORTERS | _OPAQUE):
                hazards.append((line, min(names)))
        return found, hazards

    def uses_namespace(self, meanings: dict[Chain, frozenset[str]]) -> bool:
        """Whether names of the module may be looked up by a computed name."""
        bare = {chain for chain, call in self.calls if not call.args}
        return any(
            not names.isdisjoint(_NAMESPACES)
            or (chain in bare and not names.isdisjoint(_NAMESPACES_WITHOUT_ARGUMENT))
            for chain, names in meanings.items()
        )


def _imported_by(call: ast.Call) -> Target | None:
    """The module that a call of import_module names, if it is written out."""
    given = dict(zip(("name", "package"), call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    name, package = given.get("name"), given.get("package")
    if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
        return None
    if "level" in given or len(call.args) > 2:  # the full form of __import__
        return None
    module = name.value.lstrip(".")
    level = len(name.value) - len(module)
    if level == 0 or (isinstance(package, ast.Name) and package.id == "__package__"):
        return Target(level, module)
    if isinstance(package, ast.Constant) and isinstance(package.value, str):
        kept = package.value.split(".")[: 1 - level or None]
        return Target(0, ".".join(filter(None, (*kept, module))))
    return None
