import ast
import contextlib
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import pytest

from digits.cache.fingerprint import Project, digest_of
from digits.errors import DigitsError
from tests.support.edits import ROOT, changed, code_of, edited, write

PROJECT = Path(__file__).resolve().parents[3]

# A root that reaches through three modules. The cases below change one thing in it.
CHAIN = {
    "app/step.py": '''
        """The step."""
        import math
        from app import limits
        from app.first import one
        from app.shapes import Shape
        from orchestrator import task

        FACTOR = 2


        @task(retries=3)
        def run(shape: Shape, scale=FACTOR):
            """Run it."""
            return one(scale) + math.sqrt(limits.UPPER) + shape.area()


        def unrelated():
            return "unrelated"
    ''',
    "app/first.py": '''
        from app.second import two


        def one(x):
            """First."""
            values = [x, 1, "text"]
            return two(values)  # the second


        def beside():
            return 1
    ''',
    "app/second.py": """
        from . import third


        def two(x):
            return third.three(x) or third.LIMIT
    """,
    "app/third.py": "LIMIT = 10\nOTHER = 11\n\n\ndef three(x):\n    return x[0] - 3\n",
    "app/limits.py": "UPPER = 100\nLOWER = 0\n",
    "app/shapes.py": '''
        class Shape:
            """A shape."""

            side = 1

            def area(self):
                """Its area."""
                return self.side ** 2
    ''',
}

IN_CHAIN = {
    "body": ("app/step.py", "math.sqrt", "math.cbrt", {"app/step.py: run"}),
    "helper": ("app/first.py", "[x, 1,", "[x, 2,", {"app/first.py: one"}),
    "helper of a helper": ("app/second.py", "(x) or", "(x) and", {"app/second.py: two"}),
    "helper at depth three": ("app/third.py", "- 3", "- 4", {"app/third.py: three"}),
    "constant in the same module": ("app/step.py", "= 2", "= 3", {"app/step.py: FACTOR"}),
    "constant by attribute": ("app/limits.py", "100", "101", {"app/limits.py: UPPER"}),
    "constant by attribute in a helper": ("app/third.py", "= 10", "= 12", {"app/third.py: LIMIT"}),
    "method of an annotation": ("app/shapes.py", "** 2", "** 3", {"app/shapes.py: Shape"}),
    "class attribute": ("app/shapes.py", "side = 1", "side = 2", {"app/shapes.py: Shape"}),
    "default argument": (
        "app/step.py",
        "scale=FACTOR",
        "scale=7",
        {
            "app/step.py: run",
            "app/step.py: FACTOR",
        },
    ),
    "import bound to a name": (
        "app/step.py",
        "import math",
        "import cmath as math",
        {
            "app/step.py: <imports>",
        },
    ),
    "type of a constant": ("app/first.py", "[x, 1,", "[x, True,", {"app/first.py: one"}),
    "float for an integer": ("app/limits.py", "100", "100.0", {"app/limits.py: UPPER"}),
    "bytes for text": ("app/first.py", '"text"', 'b"text"', {"app/first.py: one"}),
    "decorator of the root": ("app/step.py", "retries=3", "retries=4, tags=['a']", set()),
    "decorator of the root removed": ("app/step.py", "@task(retries=3)\n", "", set()),
    "comment": ("app/first.py", "# the second", "# the 2nd", set()),
    "docstring of the root": ("app/step.py", "Run it.", "Run the step.", set()),
    "docstring removed": ("app/first.py", '    """First."""\n', "", set()),
    "docstring of a method": ("app/shapes.py", '"""Its area."""', '"Side by side."', set()),
    "docstring of a class": ("app/shapes.py", "A shape.", "Any shape.", set()),
    "docstring of a module": ("app/step.py", "The step.", "This step.", set()),
    "wrapped line": ("app/first.py", "[x, 1,", "[\n        x,\n        1,\n       ", set()),
    "blank lines": ("app/first.py", "    values", "\n\n    values", set()),
    "quotes": ("app/first.py", '"text"', "'text'", set()),
    "implicit concatenation": ("app/first.py", '"text"', '"te" "xt"', set()),
    "parentheses": ("app/first.py", "two(values)", "(two((values)))", set()),
    "function next to the root": ("app/step.py", 'return "unrelated"', "return 2", set()),
    "function next to the root renamed": ("app/step.py", "def unrelated", "def other", set()),
    "function next to a helper": ("app/first.py", "return 1", "return 2", set()),
    "constant next to a used one": ("app/third.py", "= 11", "= 12", set()),
    "constant next to one used by attribute": ("app/limits.py", "= 0", "= 1", set()),
    "order of imports": (
        "app/step.py",
        "import math\nfrom app import limits\n",
        "from app import limits\nimport math\n",
        set(),
    ),
    "unused import": ("app/first.py", "from app.sec", "import os\nfrom app.sec", set()),
    "relative import": ("app/second.py", "from . import", "from app import", set()),
    "order of functions": (
        "app/third.py",
        "LIMIT = 10\nOTHER = 11\n\n\ndef three(x):\n    return x[0] - 3\n",
        "def three(x):\n    return x[0] - 3\n\n\nOTHER = 11\nLIMIT = 10\n",
        set(),
    ),
}


@pytest.mark.parametrize("name", IN_CHAIN)
def test_an_edit_changes_only_the_expected_digests(name: str, tmp_path: Path) -> None:
    *edit, expected = IN_CHAIN[name]
    write(tmp_path, CHAIN)

    assert edited(tmp_path, *edit) == expected


REGISTERED = {
    "app/step.py": "from app.models import MODELS\ndef run(n): return MODELS[n]()",
    "app/models.py": """
        def one(): return 1
        def two(): return 2
        MODELS = {"one": one, "two": two}
        MODELS["three"] = two
    """,
}


def test_excluded_code_is_not_walked_through(tmp_path: Path) -> None:
    write(tmp_path, REGISTERED)
    roots = [ROOT, "app.models:one"]

    code = Project(tmp_path, ("app",)).code_of(roots, without=["app.models:MODELS"])

    assert set(code) == {"app/step.py: run", "app/step.py: <imports>", "app/models.py: one"}


def test_a_registry_reaches_all_of_its_entries(tmp_path: Path) -> None:
    write(tmp_path, REGISTERED)

    assert {"app/models.py: one", "app/models.py: two"} < code_of(tmp_path).keys()


def test_a_method_as_root_means_its_class(tmp_path: Path) -> None:
    write(tmp_path, CHAIN)

    code = Project(tmp_path, ("app",)).code_of(["app.shapes:Shape.area"])

    assert set(code) == {"app/shapes.py: Shape"}


def test_a_root_can_be_named_where_it_is_exported(tmp_path: Path) -> None:
    write(tmp_path, {"app/__init__.py": "from app.step import run", **CHAIN})
    project = Project(tmp_path, ("app",))

    assert project.code_of(["app:run"]) == project.code_of([ROOT])


def test_replacing_a_docstring_with_pass_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": "def run():\n    'Nothing.'\n"})
    before = code_of(tmp_path)
    write(tmp_path, {"app/step.py": "def run():\n    pass\n"})

    assert code_of(tmp_path) == before


def test_modules_are_read_but_not_run(tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": "raise SystemExit(1)\ndef run(): pass"})

    assert "app/step.py: run" in code_of(tmp_path)


def test_fingerprinting_imports_no_heavy_libraries() -> None:
    program = (
        "import sys, digits.cache.fingerprint\n"
        "heavy = {'keras', 'numpy', 'pandas', 'prefect', 'pydantic', 'pyarrow', 'tensorflow'}\n"
        "sys.exit(' '.join(heavy & sys.modules.keys()) or None)"
    )

    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("app.step:walk", r"app/step\.py:1: 'walk' is not defined"),
        ("app.step:C.g", r"app/step\.py:1: 'C\.g' is not defined"),
        ("app.stop:run", r"'app\.stop:run' does not name any code"),
        ("app.step", r"'app\.step' does not name any code"),
        ("json:loads", r"'json:loads' does not name any code"),
    ],
)
def test_an_undefined_root_is_rejected(root: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": "def run(): pass\nclass C:\n    def f(self): pass"})
    project = Project(tmp_path, ("app",))

    with pytest.raises(DigitsError, match=message):
        project.code_of([root])
    with pytest.raises(DigitsError, match=message):
        project.code_of([ROOT], without=[root])


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"x = 1\ndef f(:\n", 2), (b"x = '\xff'\n", 1), (b"x = 1\0\n", 1), (b"(" * 5000, 1)],
    ids=["syntax", "encoding", "null byte", "nesting"],
)
def test_an_invalid_python_file_is_named(content: bytes, line: int, tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": "import app.other\ndef run(): pass"})
    (tmp_path / "app/other.py").write_bytes(content)

    with pytest.raises(DigitsError, match=rf"app/other\.py:{line}: invalid Python "):
        code_of(tmp_path)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"app/step.py": "import app.other\ndef run(): pass"})
    (tmp_path / "app/other.py").symlink_to(tmp_path / "nowhere")

    with pytest.raises(DigitsError, match=r"app/other\.py:1: unreadable, so "):
        code_of(tmp_path)


def test_circular_links_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path, CHAIN)
    before = code_of(tmp_path)
    (tmp_path / "app/loop").symlink_to(tmp_path / "app")

    assert code_of(tmp_path) == before


@pytest.mark.parametrize(
    ("path", "text", "is_reached"),
    [
        ("app/third.py", "LIMIT = 10", True),
        ("app/third.py", None, True),
        ("app/new.py", "", True),
        ("app/beside.py", "x = 2", False),
    ],
    ids=["edited", "deleted", "added", "unreached"],
)
def test_changes_to_the_sources_after_reading_are_detected(
    path: str, text: str | None, is_reached: bool, tmp_path: Path
) -> None:
    write(tmp_path, {**CHAIN, "app/beside.py": "x = 1"})
    project = Project(tmp_path, ("app",))
    code = project.code_of([ROOT])
    assert project.is_unchanged(code)

    if text is None:
        (tmp_path / path).unlink()
    else:
        (tmp_path / path).write_text(text)

    assert project.changed_files() == [path]
    assert project.is_unchanged(code) == (not is_reached)


def test_an_edit_after_reading_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    write(tmp_path, CHAIN)
    before, project = code_of(tmp_path), Project(tmp_path, ("app",))
    (tmp_path / "app/third.py").write_text("LIMIT = 20\n")

    assert project.code_of([ROOT]) == before


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Let other threads run whenever garbage is collected, and collect it often."""
    thresholds = gc.get_threshold()
    give_way = lambda *_: time.sleep(0)  # noqa: E731
    gc.callbacks.append(give_way)
    gc.set_threshold(500)
    yield
    gc.set_threshold(*thresholds)
    gc.callbacks.remove(give_way)


@pytest.mark.usefixtures("eager_switches")
def test_concurrent_threads_get_the_same_fingerprint(tmp_path: Path) -> None:
    nested = "(" * 60 + "1" + ",)" * 60
    write(tmp_path, {"app/step.py": "def run():\n" + f"    return {nested}\n" * 50})
    alone = code_of(tmp_path)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: code_of(tmp_path), range(24)))

    assert answers == [alone] * 24


@pytest.mark.usefixtures("eager_switches")
def test_another_thread_that_builds_syntax_trees_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, CHAIN)
    expected, is_over = code_of(tmp_path), Event()

    def parse_all_the_time() -> None:
        while not is_over.is_set():
            # In Python 3.11, this thread may be the one that fails, like a library's.
            with contextlib.suppress(SystemError):
                ast.parse("x = [1, (2, [3, f(4)])]")

    thread = Thread(target=parse_all_the_time)
    thread.start()
    try:
        for _ in range(50):
            assert code_of(tmp_path) == expected
    finally:
        is_over.set()
        thread.join()


def test_an_edit_with_the_same_length_and_mtime_is_detected(tmp_path: Path) -> None:
    write(tmp_path, CHAIN)
    project = Project(tmp_path, ("app",))
    before = project.code_of([ROOT])
    path = tmp_path / "app/limits.py"
    moment = path.stat()
    path.write_text(path.read_text().replace("100", "999"))
    os.utime(path, ns=(moment.st_atime_ns, moment.st_mtime_ns))

    assert project.changed_files() == ["app/limits.py"]
    assert changed(before, code_of(tmp_path)) == {"app/limits.py: UPPER"}


def test_the_digest_of_a_fingerprint_depends_on_labels_and_digests_but_not_on_order() -> None:
    assert digest_of({"a": "1", "b": "2"}) == digest_of({"b": "2", "a": "1"})
    assert len({digest_of(code) for code in ({}, {"a": "1"}, {"a": "2"}, {"b": "1"})}) == 4
