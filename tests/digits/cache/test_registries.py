"""Registries in a cache key: only the code of the requested entry counts."""

from pathlib import Path

import pytest

from digits.cache.fingerprint import Project
from digits.errors import DigitsError
from tests.support.edits import ROOT, changed, write

REGISTRY = "app.registry:MODELS"
FILES = {
    "app/step.py": "from app.registry import MODELS\ndef run(name): return MODELS[name].load()()",
    "app/registry.py": """
        from types import MappingProxyType
        from app.model import Model, build_c

        MODELS = MappingProxyType({
            "a": Model("app.a:build_a", size=1),
            "b": Model(builder="app.b:build_b", size=2),
            "c": Model(builder=build_c, size=3),
        })
    """,
    "app/model.py": """
        import pkgutil

        class Model:
            def __init__(self, builder, size): self.builder, self.size = builder, size
            def load(self): return pkgutil.resolve_name(self.builder)

        def build_c(): return helper()
        def helper(): return 3
    """,
    "app/a.py": "def build_a(): return helper()\ndef helper(): return 1\ndef another(): return 4",
    "app/b.py": "def build_b(): return 2",
}


def code_of(root: Path, entry: str) -> dict[str, str]:
    project = Project(root, ("app",))
    return project.code_of([ROOT, f"{REGISTRY}{entry}"], without=[REGISTRY])


def functions(code: dict[str, str]) -> set[str]:
    names = {label.partition(": ")[2] for label in code}
    return {name for name in names if name.startswith(("build", "helper", "another"))}


@pytest.mark.parametrize(
    ("entry", "reached"),
    [
        ("[a]", {"build_a", "helper"}),
        ("[b]", {"build_b"}),
        ("[b].builder", {"build_b"}),
        ("[c].builder", {"build_c", "helper"}),
        ("[b].size", set()),
    ],
)
def test_an_entry_reaches_only_its_own_code(entry: str, reached: set[str], tmp_path: Path) -> None:
    write(tmp_path, FILES)

    assert functions(code_of(tmp_path, entry)) == reached


@pytest.mark.parametrize(
    ("old", "new", "touched"),
    [
        ('"app.a:build_a"', '"app.a:another"', {"[a]"}),
        ('"app.a:build_a"', '"app.b:build_b"', {"[a]"}),
        ('"app.b:build_b"', "lambda: 7", {"[b]", "[b].builder"}),
        ("builder=build_c", "builder=lambda: build_c() + 1", {"[c]", "[c].builder"}),
        ("size=2", "size=22", {"[b]"}),
        ('"c": Model', '"d": Model("app.b:build_b", 9),\n            "c": Model', set()),
    ],
)
def test_an_edit_of_an_entry_counts_only_for_that_entry(
    old: str, new: str, touched: set[str], tmp_path: Path
) -> None:
    entries = ("[a]", "[b]", "[b].builder", "[c]", "[c].builder")
    write(tmp_path, FILES)
    before = {entry: code_of(tmp_path, entry) for entry in entries}
    text = FILES["app/registry.py"]
    assert text.count(old) == 1

    write(tmp_path, FILES | {"app/registry.py": text.replace(old, new)})

    after = {entry: code_of(tmp_path, entry) for entry in entries}
    assert {entry for entry in entries if changed(before[entry], after[entry])} == touched


@pytest.mark.parametrize(
    "registry",
    [
        "MODELS = {'a': 'app.a:build_a', 'b': 'app.b:build_b'}\nMODELS['c'] = 'app.a:another'",
        "KEY = 'a'\nMODELS = {KEY: 'app.a:build_a', 'b': 'app.b:build_b', 'c': 'app.a:another'}",
        "A = {'a': 'app.a:build_a', 'c': 'app.a:another'}\nMODELS = {**A, 'b': 'app.b:build_b'}",
        "MODELS = dict(a='app.a:build_a', b='app.b:build_b', c='app.a:another')",
    ],
)
def test_every_entry_counts_if_the_registry_cannot_be_resolved(
    registry: str, tmp_path: Path
) -> None:
    write(tmp_path, FILES | {"app/registry.py": registry})

    assert functions(code_of(tmp_path, "[a]")) == {"build_a", "helper", "build_b", "another"}


def test_a_missing_entry_is_rejected(tmp_path: Path) -> None:
    write(tmp_path, FILES)

    with pytest.raises(DigitsError, match=r"^app\.registry:MODELS: unknown key 'z'"):
        code_of(tmp_path, "[z]")


@pytest.mark.parametrize(
    ("text", "is_reached"),
    [("app.a:build_a", True), ("app.a:missing", True), ("a:build_a", False), ("app.a", False)],
)
def test_code_named_as_an_entry_point_counts(text: str, is_reached: bool, tmp_path: Path) -> None:
    write(tmp_path, FILES | {"app/step.py": f"def run(): return load({text!r})"})

    code = Project(tmp_path, ("app",)).code_of([ROOT])

    assert ("app/a.py: build_a" in code) == is_reached
