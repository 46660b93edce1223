"""The code that a step reaches, told apart by content: what can change its output changes this.

Everything is read off the source files. No module of the project is imported, and a file is parsed
once a process. A digest covers a top-level definition (a function, a whole class, an assignment)
without comments, docstrings and formatting; it can be compared within one minor version of Python,
since syntax trees differ between them. Beside what a definition refers to, each module that is
imported on the way brings what its import does: statements that may register something.

It takes more for reached than is:
- a local variable counts as the global of the same name, a class as one piece with all its methods;
- a module that is handed around, starred or asked by getattr counts as a whole, with what it
  imports; so does one whose dotted name stands in a string, such as a logger's;
- an assignment by a call, a decorator, or a base class that is not known to leave no trace counts
  for whoever imports its module; so does the order of statements that look at each other's work;
- a string that equals the name of a file or folder beneath the packages, or its suffix.

It does not see, so do not build a step on it:
- the class of an object that is handed in, if no reached code names it (an annotation does);
- names set or looked up on another module by a computed name through sys.modules or setattr;
- files beneath the packages named by a computed stem ("theme-" + name) or found by listing;
- an effect on import that hides in an operator, an attribute, or a callback inside a library;
- the order of import statements, and docstrings that a library reads (a schema's description);
- anything outside the packages: environment, data, compiled extensions.
"""

import ast
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from digits.codebase import Codebase
from digits.errors import DigitsError
from digits.modules import Statement
from digits.names import Definition, Imported, Node, Resource, Trail, Whole, absolute
from digits.reach import Place, Reach
from digits.scopes import names_given

# Python's own word for code outside of any function.
_MODULE = "<module>"
_IMPORTS = "<imports>"


class Project:
    """The source files of the `packages` beneath `root`, each read when it is first needed."""

    def __init__(self, root: Path, packages: tuple[str, ...] = ("digits", "tasks")) -> None:
        self._code = Codebase(root, packages)
        self._reach = Reach(self._code)

    def code_of(self, roots: Iterable[str], without: Iterable[str] = ()) -> dict[str, str]:
        """The digest of each definition that `roots` reach, by "digits/models.py: build_cnn".

        `roots` and `without` are written "package.module:name". What `without` names is left out,
        with what only it reaches. The decorators of a root that is a function do not count.
        What a module does on import is "digits/models.py: <module>", another file its path.
        Raises DigitsError for a name that is not there, and for code that cannot be followed.
        """
        found = [end for root in roots for end in self._definitions(root)]
        cut = {end for name in without for end in self._definitions(name)}
        return _Walk(self._code, self._reach, found, cut).digests()

    def changed_files(self) -> list[str]:
        """The files that differ on the disk from what was read, or have come or gone since."""
        return self._code.changed_files()

    def is_unchanged(self) -> bool:
        """Whether the disk still holds the code that this object has read."""
        return not self.changed_files()

    def _definitions(self, name: str) -> list[Definition]:
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
        self, code: Codebase, reach: Reach, roots: Iterable[Definition], cut: Iterable[Definition]
    ) -> None:
        self._code = code
        self._reach = reach
        self._bare = {
            (root.module, statement)
            for root in roots
            for statement in reach.statements(root)
            if getattr(statement.node, "name", None) == root.name
        }
        self._reached: set[Node] = set(roots)
        self._cut = set(cut)
        todo = list(self._reached)
        while todo:
            node = todo.pop()
            beside = set(reach.neighbours(node)).union(*map(reach.references, self._places(node)))
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

    def _path(self, node: Definition | Imported | Whole) -> str:
        return self._code.modules.get(node.module, node.module)

    def _content(self, node: Definition | Imported | Whole) -> tuple[list[str], str]:
        """What a node says of itself, and by which name."""
        match node:
            case Definition():
                return [self._text(place) for place in self._places(node)], node.name
            case Imported():
                return self._order(node.module), _MODULE
        return [], ""

    @cached_property
    def _shows_docs(self) -> bool:
        places = (place for node in self._reached for place in self._places(node))
        return any(statement.reading.shows_docs for _, statement in places)

    def _places(self, node: Node) -> list[Place]:
        """The statements that a node consists of."""
        match node:
            case Definition(module):
                return [self._place(module, one) for one in self._reach.statements(node)]
            case Imported(module):
                return [(module, one) for one in self._reach.unnamed_effects(module)]
        return []

    def _place(self, module: str, statement: Statement) -> Place:
        is_bare = (module, statement) in self._bare
        return module, statement.undecorated if is_bare else statement

    def _bindings(self, node: Definition) -> list[str]:
        """What import statements bind a name to, as a line of text."""
        module = self._code.module(node.module)
        targets = [
            (absolute(self._code, node.module, target), target.attribute)
            for target in module.imports.get(node.name, ())
        ]
        return [f"{node.name} {targets} {module.history[node.name]}"] if targets else []

    def _text(self, place: Place) -> str:
        return place[1].documented_text if self._shows_docs else place[1].reading.text

    def _order(self, module: str) -> list[str]:
        """What importing the module runs, in order; empty if there is nothing to put in order.

        Statements that have a name stand here with that alone: their text is theirs to tell.
        """
        parsed = self._code.module(module)
        unnamed = self._reach.unnamed_effects(module)
        order = [repr(parsed.docstring)] if self._shows_docs else []
        for statement in parsed.statements:
            place = self._place(module, statement)
            if statement in unnamed:
                order.append(self._text(place))
            elif self._is_reached(module, statement) and self._is_ordered(place):
                order.append(" ".join(sorted(statement.names | statement.imported)))
        return order if unnamed or self._shows_docs or len(order) > 1 else []

    def _is_reached(self, module: str, statement: Statement) -> bool:
        names = statement.names | statement.imported
        return any(Definition(module, name) in self._reached for name in names)

    def _is_ordered(self, place: Place) -> bool:
        return place[1].reads_state or self._reach.has_effect(place)


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
