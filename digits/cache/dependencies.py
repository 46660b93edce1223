"""What a piece of code refers to: definitions, modules and files."""

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
    """The graph of what refers to what in one codebase, drawn as far as it is asked for.

    Raises DigitsError, with file and line, for code that cannot be read or followed.
    """

    def __init__(self, code: Codebase) -> None:
        self._code = code
        self._references: dict[Statement, frozenset[Node]] = {}
        self._effects: dict[Statement, bool] = {}
        self._entries: dict[Entry, Statement] = {}

    def statements(self, node: Definition | Entry) -> list[Statement]:
        """The statements that give or alter a name, in the order of the file."""
        if isinstance(node, Entry):
            return [self._entries[node]]
        return self._code.module(node.module).writers.get(node.name, [])

    def entry(self, definition: Definition, key: str, field: str) -> Definition | Entry:
        """The entry of a registry; all of the registry if only running the code can say what it is.

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
        """The statements that do something on import, and that no name stands for."""
        return [
            statement
            for statement in self._code.module(module).statements
            if not statement.is_named and self.has_effect(statement)
        ]

    def neighbours(self, node: Node) -> Iterator[Node]:
        """What a node reaches, apart from what its statements refer to."""
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
        """What a statement refers to."""
        if statement not in self._references:
            self._references[statement] = frozenset(self._referred(statement))
        return self._references[statement]

    def has_effect(self, statement: Statement) -> bool:
        """Whether the statement, when imported, does more than give its names their values."""
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
            raise self._lost(module, line, "a star that is imported")
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
        """What a string such as "package.module:name" leads to, for code that is loaded by name."""
        module, _, name = text.partition(":")
        if module in self._code.modules and all(map(str.isidentifier, name.split("."))):
            trail = Trail(self._code)
            trail.follow_attribute(module, tuple(name.split(".")))
            yield from trail.nodes

    def _lost(self, module: str, line: int, what: str) -> DigitsError:
        return DigitsError(
            f"{self._code.modules[module]}:{line}: it cannot be told what {what} leads to here, "
            "and so not what the code depends on: name the module or the definition in the code "
            "itself"
        )

    def _executed(self, module: str, target: Target) -> Iterator[Node]:
        name = absolute(self._code, module, target)
        attribute = [] if target.attribute is None else [target.attribute]
        parts = [*name.split("."), *attribute]
        # Python runs the packages above also where it then finds that a module is missing.
        names = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        yield from (Imported(name) for name in names if self._code.has(name))

    def _hold(self, demands: list[tuple[str, Demand]]) -> bool:
        """Whether all demands hold, with those that they lead to."""
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
        """What must hold for one demand to hold; None if it does not."""
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
