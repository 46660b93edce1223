"""What a top-level statement does when its module is imported: the names it gives, and more.

A statement that does more than give its names their values may register something that other code
finds later, so whoever imports its module depends on it. Only what is known to be harmless is taken
for harmless.
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

# What leaves no trace when it is called, decorates, or is derived from: names by module.
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
# What the orchestrator is told about a step does not change what the step computes.
_ORCHESTRATOR = "prefect."
# Methods of strings and paths, and of the base class through super().
_HARMLESS_METHODS = {
    *("__init__", "absolute", "as_posix", "encode", "format", "join", "joinpath", "lower"),
    *("replace", "resolve", "split", "splitlines", "strip", "upper", "with_name", "with_suffix"),
}
# Methods that copy a frozen value of the project: harmless if making the value was.
_COPYING_METHODS = {"model_copy"}
# Decorators that neither call the method nor hand it on to be called by others.
_PASSIVE_DECORATORS = {
    *("abc.abstractmethod", "builtins.classmethod", "builtins.property", "builtins.staticmethod"),
    *("contextlib.contextmanager", "functools.cache", "functools.cached_property"),
    *("typing.final", "typing.overload", "typing.override"),
}
# Methods that run when an object is made, and those that run when a class is.
_CONSTRUCTORS = {"__init__", "__new__", "__post_init__", "model_post_init"}
_CLASS_HOOKS = {
    *("__get_pydantic_core_schema__", "__init_subclass__", "__pydantic_init_subclass__"),
    "__set_name__",
}
# Of a property of the same class: `@size.setter`.
_ACCESSORS = {"deleter", "getter", "setter"}
# In a function: what reaches beyond its own names.
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
    """A statement is harmless only if calling the class or function named so leaves no trace.

    If not `is_strict`, a name outside the project will do as well, and so will a type alias.
    """

    chain: Chain
    is_strict: bool = True


class HasEffect(Exception):  # noqa: N818  (an answer, not an error)
    """The statement may do more than give its names their values."""


class Effects:
    """Judges statements of one module, whose names `canonical` knows.

    `own` are the names of the class whose body they are: they hide the module's.
    """

    def __init__(self, canonical: Canonical, own: frozenset[str] = frozenset()) -> None:
        self._canonical = canonical
        self._own = own

    def demands(self, node: ast.stmt) -> Iterator[Demand]:
        """What must hold for `node` to be harmless. Raises HasEffect if it cannot be."""
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
        """What must hold for a call of a function, or of a class, to leave no trace.

        Raises HasEffect if it cannot hold.
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
            # All classes among the builtins are harmless, exceptions included.
            if not (is_harmless(name) or (name or "").startswith("builtins.")):
                yield Demand(chain or ())
        for keyword in node.keywords:
            self._require(keyword.arg != "metaclass" or is_harmless(self._name(keyword.value)))
        if any((self._name(base) or "").startswith("enum.") for base in node.bases):
            # Its members are made along with the class.
            methods = {one.name for one in node.body if isinstance(one, FunctionNode)}
            self._require(methods.isdisjoint(_CONSTRUCTORS))
        own = frozenset(name for one in node.body for name in names_given(one))
        body = Effects(self._canonical, self._own | own)
        for statement in node.body:
            yield from body.demands(statement)

    def _member(self, node: ast.stmt) -> Iterator[Demand]:
        """What a part of a class's body asks for when an object is made."""
        if isinstance(node, FunctionNode):
            self._require(node.name not in _CLASS_HOOKS)
            decorators = {self._name(one) for one in node.decorator_list}
            if node.name in _CONSTRUCTORS or not decorators <= _PASSIVE_DECORATORS:
                yield from self._body(node)  # among others, pydantic's validators
        elif isinstance(node, ast.AnnAssign):
            yield from self._field(node)

    def _body(self, node: FunctionNode) -> Iterator[Demand]:
        """What must hold for the body of a function to leave no trace but in its first argument."""
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
            # What `sorted` and its like are to call.
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
    """Whether something outside the project leaves no trace when used by this full name."""
    module, _, last = (name or "").rpartition(".")
    if module == "builtins":
        value = getattr(builtins, last)
        if isinstance(value, type) and issubclass(value, BaseException):
            return True
    return last in _HARMLESS.get(module, ()) or (name or "").startswith(_ORCHESTRATOR)
