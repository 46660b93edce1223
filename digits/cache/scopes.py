"""Which parts of a statement run when it does, and which names these give or alter."""

import ast
from collections.abc import Iterator

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def evaluated(*nodes: ast.AST | None) -> Iterator[ast.AST]:
    """All nodes that run when these do: not the bodies of the functions that they make."""
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
    """The names that a statement binds or deletes in the scope where it stands, imports apart."""
    names: set[str] = set()
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, FunctionNode | ast.ClassDef | ast.Lambda | ast.comprehension):
            names.update([] if isinstance(node, ast.Lambda | ast.comprehension) else [node.name])
            # Inside is another scope, out of which only := leads.
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
    """The names whose objects a simple statement alters: `TABLE["x"] = f`, `LIST.append(g)`."""
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
    """The names whose objects an assignment to `target` alters: TABLE for `TABLE["x"].y`."""
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
    """Whether the node reads, rather than binds or deletes."""
    return isinstance(node.ctx, ast.Load)


def is_indirect(target: ast.expr) -> bool:
    """Whether an assignment to `target` alters an object, rather than only binds names."""
    return any(isinstance(node, ast.Attribute | ast.Subscript) for node in ast.walk(target))
