"""Fingerprints the code that a step reaches, to detect every edit that can change its output.

A fingerprint has a digest for each top-level definition reached: a function, an assignment, or a
class with all its methods. Comments, docstrings and formatting do not count. Each module imported
on the way adds a digest of its import effects: the statements that do more than bind names, such as
registering something. Everything is read from the source files: no project module is imported, and
each file is parsed once per process. Digests can only be compared within one minor version of
Python, because syntax trees differ between versions.

Where a reference cannot be resolved exactly, the fingerprint includes too much:
- a local variable counts as a reference to the global of the same name;
- a module that is passed around or used with getattr counts completely, with its submodules and
  with everything that it imports;
- an assignment of a call, a decorator or a base class counts for every importer of its module,
  unless it is known to have no side effects; so does the order of such statements and, if a name
  is bound more than once, the order of everything reached in the module;
- a string counts as a reference to every file in the packages whose name, folder or suffix it
  equals, or whose name it matches as a pattern ("*.css"); the name of a package stands for its
  code only.

A string of the form "package.module:name" refers to that definition.

The fingerprint cannot see the following, so no step may depend on it:
- the class of an argument, if no reached code names it (an annotation is enough);
- names that are set or looked up dynamically: setattr on a module, its own vars() or locals();
- code that is loaded by name from any other string than "package.module:name";
- files in the packages whose stem is computed ("theme-" + name), or that are found by listing a
  folder that no string names;
- import effects hidden in an operator, an attribute access, or a callback inside a library;
- the order of import statements, and docstrings that a library reads (a schema's description);
- anything outside the packages: the environment, data, compiled extensions.

Code that is reached must not look up code by a computed name, or read docstrings or source text.
Star imports, import_module, eval, exec, globals, sys.modules, __subclasses__, __doc__ and the like
(listed in digits.cache.syntax) are errors.
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

_REGISTRY_ENTRY = re.compile(r"(?P<registry>.*)\[(?P<key>[^]]*)\](\.(?P<field>\w+))?")
# Python's own name for code outside any function.
_MODULE = "<module>"
_IMPORTS = "<imports>"

# In Python 3.11, two threads that build syntax trees at once raise a SystemError (gh-106905).
_one_at_a_time = Lock()


class Project:
    """A snapshot of the source files of `packages` under `root`."""

    def __init__(self, root: Path, packages: tuple[str, ...] = ("digits", "tasks")) -> None:
        self._code = Codebase(root, packages)
        self._reach = Reach(self._code)

    def code_of(self, roots: Iterable[str], without: Iterable[str] = ()) -> dict[str, str]:
        """Return the digest of each definition that `roots` reach, by "digits/spec.py: load_spec".

        `roots` and `without` have the form "package.module:name". A root can also be
        "package.module:REGISTRY[key]", one entry of a dictionary, or
        "package.module:REGISTRY[key].field", one keyword argument of the call that makes the entry.
        `without` is excluded, with everything that is reached only through it. Decorators of a root
        function do not count. Other labels are "digits/spec.py: <module>" for a module's import
        effects, "digits/spec.py: <imports>" for the names that it imports, and the path for a file.
        Raises DigitsError for an undefined name, and for code that cannot be resolved statically.
        """
        with _one_at_a_time:
            found = [end for root in roots for end in self._definitions(root)]
            cut = {end for name in without for end in self._definitions(name)}
            return _Walk(self._code, self._reach, found, cut).digests()

    def digest(self) -> str:
        """Return a SHA-256 of everything that was read."""
        return self._code.digest_of_all()

    def changed_files(self) -> list[str]:
        """List the files that have been edited, added or deleted since they were read."""
        return self._code.changed_files()

    def is_unchanged(self, code: Mapping[str, str]) -> bool:
        """Return whether the files of a `code_of` result are unchanged, and no file was added."""
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
                f"{place}: unknown key {key!r} in the root {name!r}; add the entry or correct the "
                "key"
            ) from error

    def _named(self, name: str) -> list[Definition]:
        module, _, qualname = name.partition(":")
        path = self._code.modules.get(module)
        if path is None or not qualname:
            raise DigitsError(
                f"{name!r} does not name any code (expected 'package.module:name' in "
                f"{', '.join(sorted(self._code.packages))}); correct the name"
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
                f"{path}:1: {qualname!r} is not defined, but {name!r} was requested; define it or "
                "correct the name"
            )
        return ends


class _Walk:
    """A walk from `roots` to everything they reach, except through `cut`."""

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
            adjacent = set(reach.neighbours(node))
            adjacent = adjacent.union(*map(reach.references, self._statements(node)))
            new = adjacent - self._reached - self._cut
            self._reached |= new
            todo += new

    def digests(self) -> dict[str, str]:
        """Return the digest of each reached node, by label."""
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
        """The content of a node as text, and the node's name."""
        match node:
            case Definition() | Entry():
                return [one.parsed.text for one in self._statements(node)], node.name
            case Imported():
                return self._order(self._code.module(node.module)), _MODULE
        return [], ""

    def _statements(self, node: Node) -> list[Statement]:
        match node:
            case Definition() | Entry():
                return [self._seen(one) for one in self._reach.statements(node)]
            case Imported(module):
                return self._reach.unnamed_effects(module)
        return []

    def _seen(self, statement: Statement) -> Statement:
        return statement.undecorated if statement in self._bare else statement

    def _bindings(self, node: Definition) -> list[str]:
        """The targets to which import statements bind a name, as a line of text."""
        targets = [
            (absolute(self._code, node.module, target), target.attribute)
            for target in self._code.module(node.module).imports.get(node.name, ())
        ]
        return [f"{node.name} {targets}"] if targets else []

    def _order(self, module: Module) -> list[str]:
        """The statements that importing a module runs, in order; empty if order cannot matter.

        Named statements are listed by name only: their text is in the digests of their names.
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
    """Whether a statement defines a name such as Class.method, given without its first part."""
    if not names:
        return True
    node = statement.node
    return isinstance(node, ast.ClassDef) and (
        bool(node.bases) or any(names[0] in names_given(one) for one in node.body)
    )


def _digest(content: list[str]) -> str:
    return sha256("\0".join(content).encode("utf-8", "surrogatepass")).hexdigest()


def digest_of(code: Mapping[str, str]) -> str:
    """Return a SHA-256 of a `Project.code_of` result, independent of its order."""
    return sha256(json.dumps(dict(code), sort_keys=True).encode()).hexdigest()
