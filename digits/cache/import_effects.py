"""Analyzes the import effects of top-level statements: what they do besides binding their names.

A statement with an effect may register something that other code looks up later, so every importer
of its module depends on it. A statement counts as harmless only if it is known to be.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from digits.cache.scopes import (
    FunctionNode,
    base_names,
    evaluated,
    is_indirect,
    is_load,
    names_given,
)
from digits.cache.syntax import Canonical, Chain, chain_of, is_idle

# Names, by module, without side effects when called, used as a decorator, or subclassed.
_HARMLESS = {
    "abc": {"ABC", "ABCMeta", "abstractmethod"},
    "builtins": {
        *("abs", "all", "any", "bool", "bytearray", "bytes", "classmethod", "complex", "dict"),
        *("enumerate", "float", "frozenset", "getattr", "hasattr", "int", "isinstance"),
        *("issubclass", "len", "list", "max", "min", "object", "property", "range", "repr"),
        *("reversed", "round", "set", "slice", "sorted", "staticmethod", "str", "sum", "super"),
        *("tuple", "type", "zip"),
    },
    "collections": {"ChainMap", "Counter", "OrderedDict", "defaultdict", "deque", "namedtuple"},
    "contextlib": {"AbstractContextManager", "asynccontextmanager", "contextmanager"},
    "contextvars": {"ContextVar"},
    "dataclasses": {"dataclass", "field"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "enum": {"Enum", "Flag", "IntEnum", "IntFlag", "StrEnum", "auto", "unique"},
    "fractions": {"Fraction"},
    "functools": {"cache", "cached_property", "lru_cache", "partial", "total_ordering", "wraps"},
    "logging": {"getLogger"},
    "operator": {"attrgetter", "itemgetter", "methodcaller"},
    "pathlib": {"Path", "PurePath", "PurePosixPath", "PureWindowsPath"},
    "pydantic": {
        *("BaseModel", "ConfigDict", "Field", "PrivateAttr", "StringConstraints"),
        *("AfterValidator", "BeforeValidator", "PlainValidator", "WrapValidator"),
        *("computed_field", "field_serializer", "field_validator"),
        *("model_serializer", "model_validator"),
    },
    "pydantic_settings": {"BaseSettings", "SettingsConfigDict"},
    "re": {"compile", "escape"},
    "threading": {"Condition", "Event", "Lock", "RLock", "local"},
    "types": {"MappingProxyType", "SimpleNamespace"},
    "typing": {
        *("Generic", "NamedTuple", "NewType", "ParamSpec", "Protocol", "TypeVar", "TypedDict"),
        *("cast", "final", "get_args", "get_origin", "overload", "override"),
        "runtime_checkable",
    },
}
# What a step passes to the orchestrator does not change what it computes.
_ORCHESTRATOR = "prefect."
# Methods of strings and paths, and of the base class through super().
_HARMLESS_METHODS = {
    *("__init__", "absolute", "as_posix", "encode", "format", "join", "joinpath", "lower"),
    *("replace", "resolve", "split", "splitlines", "strip", "upper", "with_name", "with_suffix"),
}
# Methods that copy a frozen value of the project: harmless if creating the value was.
_COPYING_METHODS = {"model_copy"}
# Decorators that neither call the method nor pass it on to be called later.
_PASSIVE_DECORATORS = {
    *("abc.abstractmethod", "builtins.classmethod", "builtins.property", "builtins.staticmethod"),
    *("contextlib.contextmanager", "functools.cache", "functools.cached_property"),
    *("typing.final", "typing.overload", "typing.override"),
}
# Methods that run when an object is created, and those that run when a class is.
_CONSTRUCTORS = {"__init__", "__new__", "__post_init__", "model_post_init"}
_CLASS_HOOKS = {
    *("__get_pydantic_core_schema__", "__init_subclass__", "__pydantic_init_subclass__"),
    "__set_name__",
}
# Decorators from a property of the same class: `@size.setter`.
_ACCESSORS = {"deleter", "getter", "setter"}
# Nodes by which a function reaches beyond its own names.
_TRACES = (
    ast.Await,
    ast.Global,
    ast.Import,
    ast.ImportFrom,
    ast.Nonlocal,
    ast.Yield,
    ast.YieldFrom,
)


@dataclass(frozen=True)
class Demand:
    """A condition for a statement to be harmless: calling `chain` has no side effects.

    If not `is_strict`, names outside the project and type aliases are also accepted.
    """

    chain: Chain
    is_strict: bool = True


class HasEffect(Exception):  # noqa: N818  (an answer, not an error)
    """The statement may do more than bind its names."""


class Effects:
    """Analyzes statements of one module, whose names `canonical` resolves.

    For statements in the body of a class, `own` are the class's names, which hide the module's.
    """

    def __init__(self, canonical: Canonical, own: frozenset[str] = frozenset()) -> None:
        self._canonical = canonical
        self._own = own

    def demands(self, node: ast.stmt) -> Iterator[Demand]:
        """Yield the conditions for `node` to be harmless. Raises HasEffect if it cannot be."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from self._decorators(node.decorator_list)
                yield from self._calls(node.args, node.returns)
            case ast.ClassDef():
                yield from self._class(node)
            case ast.Assign(targets=targets, value=value):
                self._require(not any(map(is_indirect, targets)))
                yield from self._calls(value)
            case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=value):
                yield from self._calls(annotation, value)
            case ast.ImportFrom(module=module):
                self._require(module != "__future__")
            case _:
                is_import = isinstance(node, ast.Import)
                self._require(is_import or is_idle(node) or type(node).__name__ == "TypeAlias")

    def call_demands(self, node: ast.stmt) -> Iterator[Demand]:
        """Yield the conditions for calling a function or class to have no side effects.

        Raises HasEffect if they cannot hold.
        """
        if isinstance(node, ast.ClassDef):
            yield from self._class(node)
            for statement in node.body:
                yield from self._member(statement)
        elif isinstance(node, FunctionNode):
            self._require({self._name(one) for one in node.decorator_list} <= _PASSIVE_DECORATORS)
            yield from self._body(node)
        else:
            raise HasEffect

    def _class(self, node: ast.ClassDef) -> Iterator[Demand]:
        yield from self._decorators(node.decorator_list)
        yield from self._calls(*node.bases, *node.keywords)
        for base in node.bases:
            chain = chain_of(base.value if isinstance(base, ast.Subscript) else base)
            self._require(chain is not None)
            name = self._seen(chain or ())
            # All builtin classes, including exceptions, are harmless.
            if not (is_harmless(name) or (name or "").startswith("builtins.")):
                yield Demand(chain or ())
        for keyword in node.keywords:
            self._require(keyword.arg != "metaclass" or is_harmless(self._name(keyword.value)))
        if any((self._name(base) or "").startswith("enum.") for base in node.bases):
            # An enum's members are created together with the class.
            methods = {one.name for one in node.body if isinstance(one, FunctionNode)}
            self._require(methods.isdisjoint(_CONSTRUCTORS))
        own = frozenset(name for one in node.body for name in names_given(one))
        body = Effects(self._canonical, self._own | own)
        for statement in node.body:
            yield from body.demands(statement)

    def _member(self, node: ast.stmt) -> Iterator[Demand]:
        """The conditions from one statement of a class body when an object is created."""
        if isinstance(node, FunctionNode):
            self._require(node.name not in _CLASS_HOOKS)
            decorators = {self._name(one) for one in node.decorator_list}
            if node.name in _CONSTRUCTORS or not decorators <= _PASSIVE_DECORATORS:
                yield from self._body(node)  # such as pydantic's validators
        elif isinstance(node, ast.AnnAssign):
            yield from self._field(node)

    def _body(self, node: FunctionNode) -> Iterator[Demand]:
        """The conditions for the body of a function to modify only its first argument."""
        parts = [part for statement in node.body for part in ast.walk(statement)]
        arguments = [part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)]
        self._require(not any(isinstance(part, _TRACES) for part in parts))
        for part in parts:
            if isinstance(part, ast.Attribute | ast.Subscript) and not is_load(part):
                self._require([*base_names(part)] == arguments[:1])
        own = {part.id for part in parts if isinstance(part, ast.Name) and not is_load(part)}
        inside = Effects(self._canonical, self._own | own | frozenset(arguments))
        yield from inside._calls(*node.body)

    def _field(self, node: ast.AnnAssign) -> Iterator[Demand]:
        for part in ast.walk(node.annotation):
            chain = chain_of(part)
            if chain is not None and self._canonical(chain) is None:
                yield Demand(chain, is_strict=False)
        for part in evaluated(node.value):
            if isinstance(part, ast.keyword) and part.arg == "default_factory":
                self._require(is_harmless(self._name(part.value)))

    def _decorators(self, decorators: Iterable[ast.expr]) -> Iterator[Demand]:
        for decorator in decorators:
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            chain = chain_of(function) or ("",)
            is_accessor = chain[0] in self._own and chain[1:] and chain[1] in _ACCESSORS
            self._require(is_accessor or is_harmless(self._seen(chain)))
            yield from self._calls(decorator)

    def _calls(self, *nodes: ast.AST | None) -> Iterator[Demand]:
        for node in evaluated(*nodes):
            if not isinstance(node, ast.Call):
                continue
            chain = chain_of(node.func)
            if chain is None:
                method = node.func.attr if isinstance(node.func, ast.Attribute) else None
                self._require(method in _HARMLESS_METHODS)
            elif chain[0] in self._own:
                self._require(chain[-1] in _HARMLESS_METHODS and len(chain) > 1)
            elif len(chain) > 1 and chain[-1] in _COPYING_METHODS and not self._canonical(chain):
                yield Demand(chain[:-1], is_strict=False)
            elif not is_harmless(self._canonical(chain)):
                self._require(self._canonical(chain) is None)
                yield Demand(chain)
            # `sorted` and similar functions call their key function.
            self._require(all(keyword.arg != "key" for keyword in node.keywords))

    def _name(self, node: ast.expr) -> str | None:
        chain = chain_of(node)
        return None if chain is None else self._seen(chain)

    def _seen(self, chain: Chain) -> str | None:
        return None if chain[0] in self._own else self._canonical(chain)

    @staticmethod
    def _require(condition: object) -> None:
        if not condition:
            raise HasEffect


def is_harmless(name: str | None) -> bool:
    """Return whether something outside the project, by full name, has no side effects when used."""
    module, _, last = (name or "").rpartition(".")
    if module == "builtins":
        value = getattr(builtins, last)
        if isinstance(value, type) and issubclass(value, BaseException):
            return True
    return last in _HARMLESS.get(module, ()) or (name or "").startswith(_ORCHESTRATOR)
