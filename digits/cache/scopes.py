"""Finds the parts of a statement that run with it, and the names that they bind or modify."""

import ast
from collections.abc import Iterator

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def evaluated(*nodes: ast.AST | None) -> Iterator[ast.AST]:
    """Yield all nodes that run with these; bodies of the functions that they define do not."""
    stack = [node for node in nodes if node is not None]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, FunctionNode):
            stack += [*node.decorator_list, node.args]
            stack += [node.returns] if node.returns is not None else []
        elif isinstance(node, ast.Lambda):
            stack.append(node.args)
        else:
            stack += ast.iter_child_nodes(node)


def names_given(statement: ast.stmt) -> frozenset[str]:
    """Return the names that a statement binds or deletes in its own scope, except by imports."""
    names: set[str] = set()
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, FunctionNode | ast.ClassDef | ast.Lambda | ast.comprehension):
            names.update([] if isinstance(node, ast.Lambda | ast.comprehension) else [node.name])
            # It opens another scope, out of which only := can bind a name.
            walrus = (part for part in evaluated(node) if isinstance(part, ast.NamedExpr))
            names.update(one.target.id for one in walrus)
            continue
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
        stack += ast.iter_child_nodes(node)
    return frozenset(names)


def names_changed(statement: ast.stmt) -> frozenset[str]:
    """Return the names whose objects a statement modifies: `TABLE["x"] = f`, `LIST.append(g)`."""
    match statement:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            altered = list(targets)
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            altered = [target]
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=target))):
            altered = [target]
        case _:
            return frozenset()
    return frozenset(name for target in altered for name in base_names(target))


def base_names(target: ast.expr) -> Iterator[str]:
    """Yield the names whose objects assigning to `target` modifies: TABLE for `TABLE["x"].y`."""
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from base_names(element)
        return
    node: ast.expr = target
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    if isinstance(node, ast.Name):
        yield node.id


def is_load(node: ast.Name | ast.Attribute | ast.Subscript) -> bool:
    """Return whether the node reads a value, rather than binding or deleting it."""
    return isinstance(node.ctx, ast.Load)


def is_indirect(target: ast.expr) -> bool:
    """Return whether assigning to `target` modifies an object instead of only binding names."""
    return any(isinstance(node, ast.Attribute | ast.Subscript) for node in ast.walk(target))
