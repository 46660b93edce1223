"""Where a dotted name in the project's code leads to."""

from collections.abc import Iterable
from dataclasses import dataclass

from digits.cache.codebase import Codebase
from digits.cache.syntax import Chain, Target


@dataclass(frozen=True)
class Definition:
    """A name of a module, with all statements that give or alter it."""

    module: str
    name: str


@dataclass(frozen=True)
class Entry:
    """What one key of a registry stands for: `module`'s NAME["key"], or one field of it.

    A registry is a module's dictionary with constant keys, made by one statement and perhaps made
    read-only by MappingProxyType. The field of an entry is a keyword argument of the call that
    makes the entry.
    """

    module: str
    registry: str
    key: str
    field: str = ""

    @property
    def name(self) -> str:
        """The entry as it is named in a cache key."""
        return f"{self.registry}[{self.key}]{self.field and '.'}{self.field}"


@dataclass(frozen=True)
class Imported:
    """A module that is imported: what that does beside giving names their values."""

    module: str


@dataclass(frozen=True)
class Whole:
    """Everything in a module and in the modules beneath it."""

    module: str


@dataclass(frozen=True)
class Resource:
    """A file that is no Python."""

    path: str


Node = Definition | Entry | Imported | Whole | Resource


def absolute(code: Codebase, module: str, target: Target) -> str:
    """The full name of the module of an import target that stands in `module`."""
    if target.level == 0:
        return target.module
    parts = module.split(".")
    is_package = code.modules.get(module, "").endswith("/__init__.py")
    num_kept = max(len(parts) - target.level + is_package, 0)
    return ".".join((*parts[:num_kept], *filter(None, (target.module,))))


class Trail:
    """What names lead to: `found` has each node with the part of the name that was left over.

    Import statements are followed through other modules, in circles too; everything that a name
    may stand for is found, not only what it stands for in the end.
    """

    def __init__(self, code: Codebase) -> None:
        self.found: set[tuple[Node, Chain]] = set()
        self._code = code
        self._seen: set[tuple[str, Chain]] = set()

    @property
    def nodes(self) -> set[Node]:
        """What was found."""
        return {node for node, _ in self.found}

    def follow(
        self, module: str, chain: Chain, bindings: Iterable[tuple[str, Target]] = ()
    ) -> None:
        """Follow a name that stands in `module`, in a function with import statements of its own.

        Names that are neither bound nor imported there are builtins.
        """
        for name, target in bindings:
            if name == chain[0]:
                self._follow_target(module, target, chain[1:])
        if (module, chain) in self._seen:
            return
        self._seen.add((module, chain))
        parsed = self._code.module(module)
        if chain[0] in parsed.names:
            self.found.add((Definition(module, chain[0]), chain[1:]))
        for target in parsed.imports.get(chain[0], ()):
            self._follow_target(module, target, chain[1:])

    def follow_attribute(self, module: str, chain: Chain) -> None:
        """Follow attributes of a module. Without any, all of the module may be used."""
        if not self._code.has(module):
            return
        self.found.add((Imported(module), chain))
        if not chain:
            self.found.add((Whole(module), chain))
            return
        is_bound = chain[0] in self._code.module(module).names
        submodule = f"{module}.{chain[0]}"
        if is_bound:
            self.follow(module, chain)
        if self._code.has(submodule):
            self.follow_attribute(submodule, chain[1:])
        elif not is_bound:
            # It comes from __getattr__, or is set by other code.
            self.found.add((Whole(module), chain))

    def _follow_target(self, module: str, target: Target, rest: Chain) -> None:
        attribute = () if target.attribute is None else (target.attribute,)
        self.follow_attribute(absolute(self._code, module, target), (*attribute, *rest))
