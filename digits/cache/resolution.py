"""Resolves dotted names in the project's code."""

from collections.abc import Iterable
from dataclasses import dataclass

from digits.cache.codebase import Codebase
from digits.cache.syntax import Chain, Target


@dataclass(frozen=True)
class Definition:
    """A name in a module, with all statements that bind it or modify its object."""

    module: str
    name: str


@dataclass(frozen=True)
class Entry:
    """One entry of a registry, `module`'s NAME["key"], or one field of it.

    A registry is a module-level dictionary with constant keys, created by one statement and
    optionally wrapped in MappingProxyType. A field is a keyword argument of the call that makes the
    entry.
    """

    module: str
    registry: str
    key: str
    field: str = ""

    @property
    def name(self) -> str:
        """The name of the entry in a cache key."""
        return f"{self.registry}[{self.key}]{self.field and '.'}{self.field}"


@dataclass(frozen=True)
class Imported:
    """An imported module: its import effects, without its definitions."""

    module: str


@dataclass(frozen=True)
class Whole:
    """Everything in a module and its submodules."""

    module: str


@dataclass(frozen=True)
class Resource:
    """A non-Python file."""

    path: str


Node = Definition | Entry | Imported | Whole | Resource


def absolute(code: Codebase, module: str, target: Target) -> str:
    """Return the full module name of an import target in `module`."""
    if target.level == 0:
        return target.module
    parts = module.split(".")
    is_package = code.modules.get(module, "").endswith("/__init__.py")
    num_kept = max(len(parts) - target.level + is_package, 0)
    return ".".join((*parts[:num_kept], *filter(None, (target.module,))))


class Trail:
    """The nodes that names may refer to: `found` has each with the unresolved rest of its name.

    Import statements are followed through other modules, including circular ones. Everything that a
    name may refer to is found, and every import on the way.
    """

    def __init__(self, code: Codebase) -> None:
        self.found: set[tuple[Node, Chain]] = set()
        self._code = code
        self._seen: set[tuple[str, Chain]] = set()

    @property
    def nodes(self) -> set[Node]:
        """The nodes in `found`."""
        return {node for node, _ in self.found}

    def follow(
        self, module: str, chain: Chain, bindings: Iterable[tuple[str, Target]] = ()
    ) -> None:
        """Follow a name in `module`; `bindings` are the imports local to its statement.

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
            # The name comes from __getattr__ or is set by other code.
            self.found.add((Whole(module), chain))

    def _follow_target(self, module: str, target: Target, rest: Chain) -> None:
        attribute = () if target.attribute is None else (target.attribute,)
        self.follow_attribute(absolute(self._code, module, target), (*attribute, *rest))
