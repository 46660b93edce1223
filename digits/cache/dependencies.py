"""Resolves what code refers to: definitions, modules and files."""

import ast
from collections.abc import Iterator

from digits.cache.codebase import Codebase
from digits.cache.import_effects import Demand
from digits.cache.modules import Statement
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
from digits.cache.syntax import Target
from digits.errors import DigitsError


class Reach:
    """The dependency graph of a codebase, built lazily.

    Raises DigitsError, with file and line, for code that cannot be parsed or resolved statically.
    """

    def __init__(self, code: Codebase) -> None:
        self._code = code
        self._references: dict[Statement, frozenset[Node]] = {}
        self._effects: dict[Statement, bool] = {}
        self._entries: dict[Entry, Statement] = {}

    def statements(self, node: Definition | Entry) -> list[Statement]:
        """Return the statements that bind a name or modify its object, in file order."""
        if isinstance(node, Entry):
            return [self._entries[node]]
        return self._code.module(node.module).writers.get(node.name, [])

    def entry(self, definition: Definition, key: str, field: str) -> Definition | Entry:
        """Return an entry of a registry; the whole registry if it cannot be resolved statically.

        Raises KeyError if the registry has no such key.
        """
        module = self._code.module(definition.module)
        value = module.entry(definition.name, key, field)
        if value is None:
            return definition
        entry = Entry(definition.module, definition.name, key, field)
        if entry not in self._entries:
            self._entries[entry] = Statement(module, ast.Expr(value), is_run=False)
        return entry

    def unnamed_effects(self, module: str) -> list[Statement]:
        """Return the statements with an effect on import that cannot be identified by a name."""
        return [
            statement
            for statement in self._code.module(module).statements
            if not statement.is_named and self.has_effect(statement)
        ]

    def neighbours(self, node: Node) -> Iterator[Node]:
        """Yield the nodes that a node reaches in addition to the references of its statements."""
        match node:
            case Definition(module) | Entry(module):
                yield Imported(module)
            case Imported(module):
                yield from self._beside_import(module)
            case Whole(module):
                yield from self._inside(module)
            case Resource(path):
                yield from map(Resource, self._code.resources_in(path))

    def references(self, statement: Statement) -> frozenset[Node]:
        """Return the nodes that a statement refers to."""
        if statement not in self._references:
            self._references[statement] = frozenset(self._referred(statement))
        return self._references[statement]

    def has_effect(self, statement: Statement) -> bool:
        """Return whether a statement, on import, does more than bind its names."""
        if statement not in self._effects:
            module = statement.module.name
            self._effects[statement] = statement.is_run and (
                statement.demands is None
                or not self._hold([(module, one) for one in statement.demands])
            )
        return self._effects[statement]

    def _beside_import(self, module: str) -> Iterator[Node]:
        parent = module.rpartition(".")[0]
        if parent:
            yield Imported(parent)
        parsed = self._code.module(module)
        for line in parsed.stars:
            raise self._lost(module, line, "a star import")
        for target in parsed.executed:
            yield from self._executed(module, target)
        for statement in parsed.statements:
            if statement.is_named and self.has_effect(statement):
                yield from (Definition(module, name) for name in statement.names)

    def _inside(self, module: str) -> Iterator[Node]:
        yield Imported(module)
        trail = Trail(self._code)
        for name in self._code.module(module).names:
            trail.follow(module, (name,))
        yield from trail.nodes
        for other in self._code.modules:
            if other.startswith(f"{module}."):
                yield Whole(other)

    def _referred(self, statement: Statement) -> Iterator[Node]:
        module, parsed = statement.module.name, statement.parsed
        for line, what in parsed.hazards:
            raise self._lost(module, line, what)
        trail = Trail(self._code)
        for chain in parsed.chains:
            trail.follow(module, chain, parsed.bindings)
        yield from trail.nodes
        for target in parsed.executed:
            yield from self._executed(module, target)
        for text in parsed.strings:
            yield from map(Resource, self._code.resources_named(text))
            yield from self._named_as_entry_point(text)

    def _named_as_entry_point(self, text: str) -> Iterator[Node]:
        """Resolve a string such as "package.module:name", for code that is loaded by name."""
        module, _, name = text.partition(":")
        if module in self._code.modules and all(map(str.isidentifier, name.split("."))):
            trail = Trail(self._code)
            trail.follow_attribute(module, tuple(name.split(".")))
            yield from trail.nodes

    def _lost(self, module: str, line: int, what: str) -> DigitsError:
        return DigitsError(
            f"{self._code.modules[module]}:{line}: cannot resolve {what} statically, so the "
            "dependencies of the code are unknown; refer to the module or definition by name"
        )

    def _executed(self, module: str, target: Target) -> Iterator[Node]:
        name = absolute(self._code, module, target)
        attribute = [] if target.attribute is None else [target.attribute]
        parts = [*name.split("."), *attribute]
        # Python runs the parent packages even if it then finds that a module is missing.
        names = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        yield from (Imported(name) for name in names if self._code.has(name))

    def _hold(self, demands: list[tuple[str, Demand]]) -> bool:
        """Whether all demands hold, including the ones that they lead to."""
        seen: set[tuple[str, Demand]] = set()
        while demands:
            demand = demands.pop()
            if demand in seen:
                continue
            seen.add(demand)
            further = self._demanded_by(*demand)
            if further is None:
                return False
            demands += further
        return True

    def _demanded_by(self, module: str, demand: Demand) -> list[tuple[str, Demand]] | None:
        """The further demands of a demand; None if it does not hold."""
        trail = Trail(self._code)
        trail.follow(module, demand.chain)
        ends = [
            (node, rest)
            for node, rest in trail.found
            if isinstance(node, Definition) and self.statements(node)
        ]
        is_vague = not ends or any(rest for _, rest in ends)
        if demand.is_strict and (is_vague or any(isinstance(one, Whole) for one in trail.nodes)):
            return None
        further = []
        for node, _ in ends:
            for statement in self.statements(node):
                needed = statement.call_demands(is_strict=demand.is_strict)
                if needed is None:
                    return None
                further += [(node.module, one) for one in needed]
        return further
