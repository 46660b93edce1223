import ast
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from digits.cache.syntax import read
from tests.support.edits import code_of, write

NAMES = st.sampled_from(["a", "b", "f"])
CONSTANTS = st.one_of(
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.binary(max_size=3),
).map(repr)
EXPRESSIONS = st.recursive(
    NAMES | CONSTANTS,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*<|"), inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("f({}, *{}, k={})".format, inner, inner, inner),
        st.builds("({}).x[{}:]".format, inner, inner),
        st.builds("({}, [{}], {{{}: 1}})".format, inner, inner, inner),
        st.builds("[{} for a, b in {} if {}]".format, inner, inner, inner),
        st.builds("(lambda a, *b, c={}: {})".format, inner, inner),
        st.builds("f'{{a!r:>{{b}}}} {{a.x}} {{f(b)}}' + {}".format, inner),
        st.builds("(yield {})".format, inner),
    ),
    max_leaves=6,
)
LINES = st.recursive(
    st.one_of(
        EXPRESSIONS.map("a = {}".format),
        EXPRESSIONS.map("return {}".format),
        EXPRESSIONS.map("a.b[0] += {}".format),
        st.sampled_from(
            ["pass", "'text'", "...", "import a.b as c", "from . import f", "global g"]
        ),
    ).map(lambda line: [line]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
        st.builds(
            lambda head, body, tail: [head, *(f"  {line}" for line in body), *tail],
            st.sampled_from(["if a:", "for a in b:", "while f():", "with f() as a:", "class C:"]),
            inner.map(lambda lines: [line.replace("return", "a =") for line in lines]),
            st.just([]) | inner,
        ),
        st.builds(
            lambda body, other: (
                ["try:", *(f"  {line}" for line in body), "except a as b:"]
                + [f"  {line}" for line in other]
            ),
            inner,
            inner,
        ),
        inner.map(lambda body: ["def g(x: 'a' = 1, /) -> b:", *(f"  {line}" for line in body)]),
    ),
    max_leaves=6,
)
FUNCTIONS = LINES.map(lambda lines: "\n".join(["def run(x):", *(f"  {line}" for line in lines)]))


def text(source: str) -> str:
    return read(ast.parse(source), lambda _: None).text


@settings(deadline=None)
@given(FUNCTIONS)
def test_reformatting_keeps_the_text(source: str) -> None:
    assert text(ast.unparse(ast.parse(source))) == text(source)


class WithoutIdleStatements(ast.NodeTransformer):
    """Removes the only statements that the text may omit: bare constants and `pass`."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node

    def visit_Pass(self, _: ast.Pass) -> None:
        return None


@settings(deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_only_equal_trees_share_a_text(one: str, other: str) -> None:
    sources = [f"def run():\n  'text'\n  a = {expression}\n  pass" for expression in (one, other)]
    trees = [ast.dump(WithoutIdleStatements().visit(ast.parse(source))) for source in sources]

    assert (text(sources[0]) == text(sources[1])) == (trees[0] == trees[1])


def test_code_nested_deeper_than_python_recurses_is_read(tmp_path: Path) -> None:
    total = " + ".join(["1"] * 1500)
    write(tmp_path, {"app/step.py": f"def run(): return {total} + {2**20000:#x}"})

    assert code_of(tmp_path)
