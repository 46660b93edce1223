"""The code that a step reaches, told apart by content: what can change its output changes this.

Everything is read off the source files. No module of the project is imported, and a file is parsed
once a process. A digest covers a top-level definition (a function, a whole class, an assignment)
without comments, docstrings and formatting; it can be compared within one minor version of Python,
since syntax trees differ between them. Beside what a definition refers to, each module that is
imported on the way brings what its import does: statements that may register something.

It takes more for reached than is:
- a local variable counts as the global of the same name, a class as one piece with all its methods;
- a module that is handed around or asked by getattr counts as a whole, with what it imports;
- an assignment by a call, a decorator, or a base class that is not known to leave no trace counts
  for whoever imports its module; so does the order of such statements, and, where a name is given
  twice, of all that is reached in the module;
- a string that equals the name of a file or folder beneath the packages, or its suffix.

It does not see, so do not build a step on it:
- the class of an object that is handed in, if no reached code names it (an annotation does);
- names set or looked up by a computed name: setattr on a module, vars() or locals() of its own;
- code that a library loads by a name that stands in a string ("package.module:function");
- files beneath the packages named by a computed stem ("theme-" + name) or found by listing;
- an effect on import that hides in an operator, an attribute, or a callback inside a library;
- the order of import statements, and docstrings that a library reads (a schema's description);
- anything outside the packages: environment, data, compiled extensions.

It refuses what leads to code by a computed name, or shows docstrings: star imports, import_module,
eval, exec, globals, sys.modules, __subclasses__, __doc__.
"""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from threading import Lock

from digits.cache.codebase import Codebase
from digits.cache.dependencies import Reach
from digits.cache.modules import Module, Statement
from digits.cache.resolution import (
    Definition,
    Entry,
    Imported,
    Node,
    Resource,
    Trail,
    Whole,
    absolute,
)
from digits.cache.scopes import names_given
from digits.errors import DigitsError

# Python's own word for code outside of any function.
_REGISTRY_ENTRY = re.compile(r"(?P<registry>.*)\[(?P<key>[^]]*)\](\.(?P<field>\w+))?")
_MODULE = "<module>"
_IMPORTS = "<imports>"

# Two threads that make syntax trees at once end with a SystemError in Python 3.11 (gh-106905).
_one_at_a_time = Lock()


class Project:
    """The source files of the `packages` beneath `root`, as they are when this is made."""

    def __init__(self, root: Path, packages: tuple[str, ...] = ("digits", "tasks")) -> None:
        self._code = Codebase(root, packages)
        self._reach = Reach(self._code)

    def code_of(self, roots: Iterable[str], without: Iterable[str] = ()) -> dict[str, str]:
        """The digest of each definition that `roots` reach, by "digits/spec.py: load_spec".

        `roots` and `without` are written "package.module:name"; a root also
        "package.module:REGISTRY[key]" or "package.module:REGISTRY[key].field" for one entry of a
        dictionary, or one keyword argument of the call that makes the entry. What `without` names
        is left out, with what only it reaches. The decorators of a root that is a function do not
        count. What a module does on import is "digits/spec.py: <module>", another file its path.
        Raises DigitsError for a name that is not there, and for code that cannot be followed.
        """
        with _one_at_a_time:
            found = [end for root in roots for end in self._definitions(root)]
            cut = {end for name in without for end in self._definitions(name)}
            return _Walk(self._code, self._reach, found, cut).digests()

    def digest(self) -> str:
        """SHA-256 over all that was read."""
        return self._code.digest_of_all()

    def changed_files(self) -> list[str]:
        """The files that differ on the disk from what was read, or have come or gone since."""
        return self._code.changed_files()

    def is_unchanged(self, code: Mapping[str, str]) -> bool:
        """Whether the disk still holds what `code_of` gave: its files as they were, none added."""
        files = {label.partition(": ")[0] for label in code}
        changed = self.changed_files()
        return not any(path in files or not self._code.is_known(path) for path in changed)

    def _definitions(self, name: str) -> list[Definition | Entry]:
        registry = _REGISTRY_ENTRY.fullmatch(name)
        if registry is None:
            return [*self._named(name)]
        place, key, field = registry["registry"], registry["key"], registry["field"] or ""
        try:
            return [self._reach.entry(one, key, field) for one in self._named(place)]
        except KeyError as error:
            raise DigitsError(
                f"{place}: unknown key {key!r}, but what it depends on was asked for; add the entry"
            ) from error

    def _named(self, name: str) -> list[Definition]:
        module, _, qualname = name.partition(":")
        path = self._code.modules.get(module)
        if path is None or not qualname:
            raise DigitsError(
                f"{name!r} names no code: expected 'package.module:name' with a module of "
                f"{', '.join(sorted(self._code.packages))}; correct the name"
            )
        trail = Trail(self._code)
        trail.follow(module, tuple(qualname.split(".")))
        ends = [
            node
            for node, rest in trail.found
            if isinstance(node, Definition)
            and any(_has(statement, rest) for statement in self._reach.statements(node))
        ]
        if not ends:
            raise DigitsError(
                f"{path}:1: {qualname!r} is not defined there, but what it depends on was asked "
                f"for as {name!r}: define it or correct the name"
            )
        return ends


class _Walk:
    """One walk from `roots` to all that they reach, not through what is `cut`."""

    def __init__(
        self,
        code: Codebase,
        reach: Reach,
        roots: Iterable[Definition | Entry],
        cut: Iterable[Definition | Entry],
    ) -> None:
        self._code = code
        self._reach = reach
        self._bare = {
            statement
            for root in roots
            for statement in reach.statements(root)
            if getattr(statement.node, "name", None) == root.name
        }
        self._reached: set[Node] = set(roots)
        self._cut = set(cut)
        todo = list(self._reached)
        while todo:
            node = todo.pop()
            beside = set(reach.neighbours(node))
            beside = beside.union(*map(reach.references, self._statements(node)))
            new = beside - self._reached - self._cut
            self._reached |= new
            todo += new

    def digests(self) -> dict[str, str]:
        """What was reached, each by its label."""
        digests = {}
        bindings: dict[str, list[str]] = defaultdict(list)
        for node in self._reached:
            if isinstance(node, Resource):
                digests[node.path] = self._code.digest(node.path)
                continue
            if isinstance(node, Definition):
                bindings[f"{self._path(node)}: {_IMPORTS}"] += self._bindings(node)
            content, name = self._content(node)
            if content:
                digests[f"{self._path(node)}: {name}"] = _digest(content)
        digests |= {label: _digest(sorted(lines)) for label, lines in bindings.items() if lines}
        return dict(sorted(digests.items()))

    def _path(self, node: Definition | Entry | Imported | Whole) -> str:
        return self._code.modules.get(node.module, node.module)

    def _content(self, node: Definition | Entry | Imported | Whole) -> tuple[list[str], str]:
        """What a node says of itself, and by which name."""
        match node:
            case Definition() | Entry():
                return [one.parsed.text for one in self._statements(node)], node.name
            case Imported():
                return self._order(self._code.module(node.module)), _MODULE
        return [], ""

    def _statements(self, node: Node) -> list[Statement]:
        """The statements that a node consists of."""
        match node:
            case Definition() | Entry():
                return [self._seen(one) for one in self._reach.statements(node)]
            case Imported(module):
                return self._reach.unnamed_effects(module)
        return []

    def _seen(self, statement: Statement) -> Statement:
        return statement.undecorated if statement in self._bare else statement

    def _bindings(self, node: Definition) -> list[str]:
        """What import statements bind a name to, as a line of text."""
        targets = [
            (absolute(self._code, node.module, target), target.attribute)
            for target in self._code.module(node.module).imports.get(node.name, ())
        ]
        return [f"{node.name} {targets}"] if targets else []

    def _order(self, module: Module) -> list[str]:
        """What importing the module runs, in order; empty if there is nothing to put in order.

        Statements that have a name stand here with that alone: their text is theirs to tell.
        """
        unnamed = self._reach.unnamed_effects(module.name)
        reached = [one for one in module.statements if self._is_reached(one)]
        is_all = any(one.is_written_again for one in reached)
        order = []
        for statement in module.statements:
            if statement in unnamed:
                order.append(statement.parsed.text)
            elif statement in reached and (is_all or self._reach.has_effect(self._seen(statement))):
                kind = type(statement.node).__name__
                order.append(" ".join((kind, *sorted(statement.names | statement.imported))))
        return order if unnamed or len(order) > 1 else []

    def _is_reached(self, statement: Statement) -> bool:
        names = statement.names | statement.imported
        return any(Definition(statement.module.name, name) in self._reached for name in names)


def _has(statement: Statement, names: tuple[str, ...]) -> bool:
    """Whether a statement gives a name such as Class.method, apart from its first part."""
    if not names:
        return True
    node = statement.node
    return isinstance(node, ast.ClassDef) and (
        bool(node.bases) or any(names[0] in names_given(one) for one in node.body)
    )


def _digest(content: list[str]) -> str:
    return sha256("\0".join(content).encode("utf-8", "surrogatepass")).hexdigest()


def digest_of(code: Mapping[str, str]) -> str:
    """SHA-256 over what `Project.code_of` gives, whatever its order."""
    return sha256(json.dumps(dict(code), sort_keys=True).encode()).hexdigest()
