from pathlib import Path

import pytest

from digits.errors import DigitsError
from tests.support.edits import Case, changed, code_of, edited, write

# The ways in which code can refer to other code, mostly to the edited `app/other.py`.
REFERENCES = {
    "import as": Case(
        {
            "app/step.py": "import app.other as o\ndef run(): return o.f()",
            "app/other.py": "def f(): return 1\ndef g(): return 2",
        },
        ("app/other.py", "return 1", "return 3"),
        {"app/other.py: f"},
    ),
    "import as, unused function": Case(
        {
            "app/step.py": "import app.other as o\ndef run(): return o.f()",
            "app/other.py": "def f(): return 1\ndef g(): return 2",
        },
        ("app/other.py", "return 2", "return 3"),
    ),
    "dotted import": Case(
        {
            "app/step.py": "import app.sub.other\ndef run(): return app.sub.other.f()",
            "app/sub/__init__.py": "",
            "app/sub/other.py": "def f(): return 1",
        },
        ("app/sub/other.py", "1", "2"),
        {"app/sub/other.py: f"},
    ),
    "folder without __init__": Case(
        {
            "app/step.py": "from app.sub import other\ndef run(): return other.f()",
            "app/sub/other.py": "def f(): return 1",
        },
        ("app/sub/other.py", "1", "2"),
        {"app/sub/other.py: f"},
    ),
    "name swapped for another": Case(
        {
            "app/step.py": "from app.other import f as a, g as b\ndef run(): return a() - b()",
            "app/other.py": "def f(): return 1\ndef g(): return 2",
        },
        ("app/step.py", "f as a, g as b", "f as b, g as a"),
        {"app/step.py: <imports>"},
    ),
    "import in a function": Case(
        {
            "app/step.py": "def run():\n    from app.other import f as g\n    return g()",
            "app/other.py": "def f(): return 1",
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: f"},
    ),
    "module imported in a function": Case(
        {
            "app/step.py": "def run():\n    from . import other\n    return other.f()",
            "app/other.py": "def f(): return 1\ndef g(): return 0",
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: f"},
    ),
    "for type checking": Case(
        {
            "app/step.py": """
                import typing
                if typing.TYPE_CHECKING:
                    from app.other import C
                def run(x: "list[C]"): return x
            """,
            "app/other.py": "class C:\n    def f(self): return 1",
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: C"},
    ),
    "import that may fail": Case(
        {
            "app/step.py": """
                try:
                    from app.fast import f
                except ImportError:
                    from app.other import f
                def run(): return f()
            """,
            "app/other.py": "def f(): return 1",
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: f"},
    ),
    "exported by a package": Case(
        {
            "app/step.py": "from app.sub import f\ndef run(): return f()",
            "app/sub/__init__.py": "from app.sub.other import f",
            "app/sub/other.py": "def f(): return 1",
        },
        ("app/sub/other.py", "1", "2"),
        {"app/sub/other.py: f"},
    ),
    "exported by a package under another name": Case(
        {
            "app/step.py": "import app.sub as s\ndef run(): return s.g()",
            "app/sub/__init__.py": "from .other import f as g, h",
            "app/sub/other.py": "def f(): return 1\ndef h(): return 2",
        },
        ("app/sub/__init__.py", "f as g, h", "f, h as g"),
        {"app/sub/__init__.py: <imports>", "app/sub/other.py: f", "app/sub/other.py: h"},
    ),
    "getattr on a module": Case(
        {
            "app/step.py": "from app import other\ndef run(n): return getattr(other, n)()",
            "app/other.py": "def f(): return 1",
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: f"},
    ),
    "getattr on a module that imports the name": Case(
        {
            "app/step.py": "from app import other\ndef run(n): return getattr(other, n)()",
            "app/other.py": "from app.last import f",
            "app/last.py": "def f(): return 1",
        },
        ("app/last.py", "1", "2"),
        {"app/last.py: f"},
    ),
    "module under another name": Case(
        {
            "app/step.py": "from app import other\nalias = other\ndef run(): return alias.f()",
            "app/other.py": "def f(): return 1",
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: f"},
    ),
    "__getattr__ of a module": Case(
        {
            "app/step.py": "from app import other\ndef run(): return other.anything",
            "app/other.py": "def __getattr__(name): return 1",
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: __getattr__"},
    ),
    "base class": Case(
        {
            "app/step.py": "from app.other import B\nclass C(B): pass\ndef run(): return C().f()",
            "app/other.py": "class B:\n    def f(self): return 1",
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: B"},
    ),
    "decorator of a helper": Case(
        {
            "app/step.py": "from app.other import d\n@d\ndef f(): pass\ndef run(): return f()",
            "app/other.py": "def d(f): return f",
        },
        ("app/other.py", "return f", "return 2"),
        {"app/other.py: d"},
    ),
    "argument of a helper's decorator": Case(
        {"app/step.py": "from library import d\n@d(1)\ndef f(): pass\ndef run(): return f()"},
        ("app/step.py", "@d(1)", "@d(2)"),
        {"app/step.py: f"},
    ),
    "default of a helper": Case(
        {"app/step.py": "N = 1\ndef f(x=N): return x\ndef run(): return f()"},
        ("app/step.py", "N = 1", "N = 2"),
        {"app/step.py: N"},
    ),
    "lambda in a comprehension in a function in a function": Case(
        {
            "app/step.py": """
                def f(): return 1
                def run():
                    def inner(xs): return [(lambda: f())() for x in xs]
                    return inner
            """
        },
        ("app/step.py", "return 1", "return 2"),
        {"app/step.py: f"},
    ),
    "global rebound by a function": Case(
        {
            "app/step.py": """
                LIMIT = 1
                def configure():
                    global LIMIT
                    LIMIT = 2
                def run(): return LIMIT
            """
        },
        ("app/step.py", "LIMIT = 2", "LIMIT = 3"),
        {"app/step.py: LIMIT"},
    ),
    "augmented assignment": Case(
        {"app/step.py": "NAMES = ['a']\nNAMES += ['b']\ndef run(): return NAMES"},
        ("app/step.py", "'b'", "'c'"),
        {"app/step.py: NAMES"},
    ),
    "second assignment": Case(
        {"app/step.py": "N = 1\nM = N\nN = 2\ndef run(): return M"},
        ("app/step.py", "M = N\nN = 2\n", "N = 2\nM = N\n"),
        {"app/step.py: <module>"},
    ),
    "assignment and import of one name": Case(
        {
            "app/step.py": "f = 1\nfrom app.other import f\ndef run(): return f",
            "app/other.py": "f = 2",
        },
        ("app/step.py", "f = 1\nfrom app.other import f\n", "from app.other import f\nf = 1\n"),
        {"app/step.py: <module>"},
    ),
    "two imports of one name": Case(
        {
            "app/step.py": "from app.a import f\nfrom app.b import f\ndef run(): return f",
            "app/a.py": "f = 1",
            "app/b.py": "f = 2",
        },
        (
            "app/step.py",
            "from app.a import f\nfrom app.b import f\n",
            "from app.b import f\nfrom app.a import f\n",
        ),
        {"app/step.py: <imports>"},
    ),
    "bound by := in a decorator": Case(
        {"app/step.py": "from library import d\n@d(n := 1)\ndef f(): pass\ndef run(): return n"},
        ("app/step.py", "n := 1", "n := 2"),
        {"app/step.py: f", "app/step.py: n"},
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_references_count(name: str, tmp_path: Path) -> None:
    case = REFERENCES[name]
    write(tmp_path, case.files)

    assert edited(tmp_path, *case.edit) == case.changed


RESOURCES = {
    "app/templates/report.html": "{% include 'base.html' %}",
    "app/templates/base.html": "<p>1</p>",
    "app/templates/deep/style.css": "p {}",
    "app/templates/unused.html": "",
    "app/centroids.bin": "1",
}


@pytest.mark.parametrize(
    ("mention", "expected"),
    [
        ("'report.html'", {"report.html", "base.html"}),
        ("'templates/report.html'", {"report.html", "base.html"}),
        ("'app/templates/base.html'", {"base.html"}),
        ("'./base.html'", {"base.html"}),
        ("'deep/'", {"deep/style.css"}),
        ("'app.templates'", {"report.html", "base.html", "unused.html", "deep/style.css"}),
        ("'templates'", {"report.html", "base.html", "unused.html", "deep/style.css"}),
        ("'*.css'", {"deep/style.css"}),
        ("f'{name}.css'", {"deep/style.css"}),
        ("name + '.css'", {"deep/style.css"}),
        ("'app'", set()),
        ("'*'", set()),
        ("'.'", set()),
        ("'html'", set()),
    ],
)
def test_files_named_in_code_count(mention: str, expected: set[str], tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": f"def run(name): return {mention}", **RESOURCES})

    files = {label for label in code_of(tmp_path) if not label.endswith(": run")}

    assert files == {f"app/templates/{name}" for name in expected}


def test_a_package_name_does_not_refer_to_files_in_its_folder(tmp_path: Path) -> None:
    files = {"app/pages/__init__.py": "", "app/pages/page.html": "", "app/pages/kept/a.css": ""}
    write(tmp_path, {"app/step.py": "def run(): return 'pages', 'app/pages', 'kept'", **files})

    found = {label for label in code_of(tmp_path) if not label.endswith(": run")}

    assert found == {"app/pages/kept/a.css"}


def test_editing_a_file_that_code_names_changes_its_digest(tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": "def run(): return 'report.html'", **RESOURCES})

    assert edited(tmp_path, "app/templates/base.html", "1", "2") == {"app/templates/base.html"}


def test_a_new_file_in_a_folder_that_code_names_counts(tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": "def run(): return 'templates'", **RESOURCES})
    before = code_of(tmp_path)
    write(tmp_path, {"app/templates/new.html": "", "app/templates/.new.html.swp": ""})

    assert changed(before, code_of(tmp_path)) == {"app/templates/new.html"}


def test_circular_imports_are_followed_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "app/__init__.py": "from app import core, step\nimport app.core.core as core",
            "app/core/__init__.py": "from app.core.core import f\nfrom app.step import g",
            "app/core/core.py": "from app.core import g, f as h\ndef f(): return g() or h()",
            "app/step.py": "from app.core import f as g, g as f\ndef run(): return g() or f.x.y()",
        },
    )

    assert "app/core/core.py: f" in code_of(tmp_path)


def test_files_with_equal_content_are_distinguished(tmp_path: Path) -> None:
    helper = "from . import data\ndef f(): return data.N"
    write(
        tmp_path,
        {
            "app/step.py": "from app.a.m import f\nfrom app.b.m import f as g\n"
            "def run(): return f() or g()",
            "app/a/__init__.py": "",
            "app/a/m.py": helper,
            "app/a/data.py": "N = 1",
            "app/b/__init__.py": "",
            "app/b/m.py": helper,
            "app/b/data.py": "N = 2",
        },
    )

    assert edited(tmp_path, "app/b/data.py", "2", "3") == {"app/b/data.py: N"}


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import importlib as i\ndef run(n):\n    i.import_module(n)", "importlib.import_module"),
        ("import importlib as i\ndef run():\n    return map(i.import_module, 'a')", "_module"),
        ("def run(n):\n    from importlib import import_module as f\n    f(n)", "import_module"),
        ("def run(n):\n\n    __import__(n)", "__import__"),
        ("def run(n):\n\n    return eval(n)", "eval"),
        ("def run(n):\n\n    return globals()[n]", "globals"),
        ("import sys\ndef run(n):\n    return sys.modules[n]", "sys.modules"),
        ("import runpy\ndef run(n):\n    runpy.run_path(n)", "runpy"),
        ("class B: pass\ndef run():\n    return B.__subclasses__()", "__subclasses__"),
        ("def f(): 'Text.'\ndef run():\n    return f.__doc__", "__doc__"),
        ("'Text.'\ndef run():\n    return __doc__", "__doc__"),
        ("def run(): pass\n\nfrom library import *", "a star import"),
    ],
)  # fmt: skip
def test_code_that_cannot_be_resolved_is_rejected(code: str, what: str, tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": code})

    with pytest.raises(DigitsError, match=rf"app/step\.py:3: cannot resolve .*({what})"):
        code_of(tmp_path)


def test_unreached_code_that_cannot_be_resolved_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": "def run(): pass\ndef other(n): exec(n)"})

    assert set(code_of(tmp_path)) == {"app/step.py: run"}
