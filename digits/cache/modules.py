"""A parsed Python module: its top-level statements and what its names refer to."""

import ast
import builtins
import copy
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from itertools import chain

from digits.cache.import_effects import Demand, Effects, HasEffect
from digits.cache.scopes import FunctionNode, evaluated, names_changed, names_given
from digits.cache.syntax import (
    Chain,
    Parsed,
    Target,
    bindings_of,
    chain_of,
    executed_by,
    is_idle,
    parse,
    read,
)

_COMPOUND = (
    ast.If,
    ast.For,
    ast.While,
    ast.Try,
    ast.TryStar,
    ast.With,
    ast.Match,
    ast.AsyncFor,
    ast.AsyncWith,
)


class Statement:
    """One top-level statement of `module`.

    `given` are the names that it binds, including those that a function in it can bind through
    `global`; `names` adds those whose objects it modifies; `imported` are bound by its import
    statements. `is_run`: whether importing the module runs it.
    """

    def __init__(self, module: "Module", node: ast.stmt, *, is_run: bool) -> None:
        self.module = module
        self.node = node
        self.is_run = is_run
        self.given = names_given(node) | module.rebound(node)
        self.names = self.given | names_changed(node)
        self.imports = _imports(node)
        self.bindings = [pair for one in self.imports for pair in bindings_of(one)]
        self.imported = frozenset(name for name, _ in self.bindings)
        # The names that an `if` or a `for` binds do not identify everything that it does.
        self.is_named = bool(self.names) and not isinstance(node, _COMPOUND)

    @cached_property
    def parsed(self) -> Parsed:
        """The text of the statement and everything that it refers to."""
        return read(self.node, self.module.canonical)

    @cached_property
    def demands(self) -> tuple[Demand, ...] | None:
        """The conditions for the statement to be harmless on import; None if it is not."""
        try:
            return tuple(self.module.effects.demands(self.node))
        except HasEffect:
            return None

    def call_demands(self, *, is_strict: bool) -> tuple[Demand, ...] | None:
        """Return the conditions for calling this class or function to have no side effects.

        Returns None if it may have some. If not `is_strict`, type aliases of such classes are also
        accepted.
        """
        if any(len(self.module.writers[name]) > 1 for name in self.names):
            return None
        if is_strict or isinstance(self.node, FunctionNode | ast.ClassDef):
            return self._call_demands
        if self.demands is None:
            return None
        return (*self.demands, *(Demand(chain, is_strict=False) for chain in self.parsed.chains))

    @cached_property
    def _call_demands(self) -> tuple[Demand, ...] | None:
        try:
            return tuple(self.module.effects.call_demands(self.node))
        except HasEffect:
            return None

    @property
    def is_written_again(self) -> bool:
        """Whether another statement also binds one of its names or modifies its object."""
        return any(map(self.module.is_written_twice, self.names | self.imported))

    @cached_property
    def undecorated(self) -> "Statement":
        """The same function without its decorators; other statements are unchanged."""
        if not isinstance(self.node, FunctionNode):
            return self
        node = copy.copy(self.node)
        node.decorator_list = []
        return Statement(self.module, node, is_run=self.is_run)


class Module:
    """A parsed file. `packages` are the project's top-level packages.

    `writers` maps a name to the statements that bind it or modify its object, `imports` to its
    import targets; `executed` are the modules that importing this one runs, `stars` the lines with
    a `from x import *`. Raises SyntaxError or ValueError.
    """

    def __init__(self, name: str, content: bytes, packages: frozenset[str]) -> None:
        tree = parse(content)
        self.name = name
        self._packages = packages
        self._has_globals = b"global" in content
        self.writers: dict[str, list[Statement]] = defaultdict(list)
        self.imports: dict[str, list[Target]] = defaultdict(list)
        self.executed: list[Target] = []
        self.stars: list[int] = []
        self.statements = [
            Statement(self, node, is_run=is_run) for node, is_run in _flat(tree.body, is_run=True)
        ]
        self.effects = Effects(self.canonical)
        for statement in self.statements:
            self._enter(statement)

    @property
    def names(self) -> set[str]:
        """All names that are known to be bound in the module."""
        return self.writers.keys() | self.imports.keys()

    def canonical(self, chain: Chain) -> str | None:
        """Return the full name of something outside the project, such as "functools.cache".

        Builtins are "builtins.len". Returns None for names inside the project or if uncertain.
        """
        name = chain[0]
        if any(name in statement.given for statement in self.writers.get(name, ())):
            return None
        targets = self.imports.get(name)
        if targets is None:
            return ".".join(("builtins", *chain)) if hasattr(builtins, name) else None
        target = targets[0]
        if len(targets) > 1 or target.level or target.module.split(".")[0] in self._packages:
            return None
        attribute = () if target.attribute is None else (target.attribute,)
        return ".".join((target.module, *attribute, *chain[1:]))

    def is_written_twice(self, name: str) -> bool:
        """Return whether the meaning of a name depends on the order of statements."""
        num_writers = len(self.writers.get(name, ())) + len(self.imports.get(name, ()))
        return num_writers > 1 or hasattr(builtins, name)

    def entry(self, registry: str, key: str, field: str) -> ast.expr | None:
        """Return the expression of a registry entry; None if it cannot be resolved statically.

        With `field`, returns the keyword argument of that name if the entry is a call that has it.
        Raises KeyError if the registry has no such key.
        """
        writers = self.writers.get(registry, ())
        value = getattr(writers[0].node, "value", None) if len(writers) == 1 else None
        if isinstance(value, ast.Call) and value.args and not value.keywords:
            is_read_only = self.canonical(chain_of(value.func) or ("",)) == "types.MappingProxyType"
            value = value.args[0] if is_read_only else None
        if not isinstance(value, ast.Dict):
            return None
        keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
        if None in keys:
            return None
        entry = dict(zip(keys, value.values, strict=True))[key]
        named = entry.keywords if isinstance(entry, ast.Call) else ()
        return next((one.value for one in named if one.arg == field), entry)

    def _enter(self, statement: Statement) -> None:
        for name in statement.names:
            self.writers[name].append(statement)
        for name, target in statement.bindings:
            if name == "*":
                self.stars.append(statement.node.lineno)
            elif self.imports[name][-1:] != [target]:  # `import a.b` and `import a.c` both bind `a`
                self.imports[name].append(target)
        if statement.is_run:
            for node in statement.imports:
                self.executed += executed_by(node)

    def rebound(self, node: ast.stmt) -> frozenset[str]:
        """Return the names that functions in `node` declare global."""
        parts = ast.walk(node) if self._has_globals else ()
        declared = (part.names for part in parts if isinstance(part, ast.Global))
        return frozenset(chain.from_iterable(declared))


def _imports(statement: ast.stmt) -> list[ast.Import | ast.ImportFrom]:
    """The import statements that run when the statement does."""
    return [node for node in evaluated(statement) if isinstance(node, ast.Import | ast.ImportFrom)]


def _flat(body: list[ast.stmt], *, is_run: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Flatten blocks that an import never runs; yield each statement and whether it is run."""
    for node in body:
        if isinstance(node, ast.If) and not node.orelse and _is_never_run(node.test):
            yield from _flat(node.body, is_run=False)
        elif not is_idle(node):
            yield node, is_run


def _is_never_run(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Compare(
            left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant("__main__")]
        ):
            return True
    return False
