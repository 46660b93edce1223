from pathlib import Path

import pytest

from tests.support.edits import Case, edited, write

# Import effects: `app/other.py` is imported by the step and not used otherwise.
IMPORTING = "from app import other\nfrom app.registry import TABLE\ndef run(n): return TABLE[n]()"
REGISTRY = """
    TABLE = {}
    def register(name):
        def keep(f):
            TABLE[name] = f
            return f
        return keep
"""
EFFECTS = {
    "registered by a decorator": Case(
        {
            "app/other.py": """
                from app.registry import register
                @register("x")
                def f(): return 1
                def g(): return 2
            """
        },
        ("app/other.py", "return 1", "return 3"),
        {"app/other.py: f"},
    ),
    "helper of a registered function": Case(
        {
            "app/other.py": """
                from app.registry import register
                @register("x")
                def f(): return g()
                def g(): return 2
            """
        },
        ("app/other.py", "return 2", "return 3"),
        {"app/other.py: g"},
    ),
    "next to a registered function": Case(
        {
            "app/other.py": """
                from app.registry import register
                @register("x")
                def f(): return 1
                def g(): return 2
            """
        },
        ("app/other.py", "return 2", "return 3"),
    ),
    "name of a registered function": Case(
        {"app/other.py": "from app.registry import register\n@register('x')\ndef f(): pass"},
        ("app/other.py", "'x'", "'y'"),
        {"app/other.py: f"},
    ),
    "put into a table": Case(
        {"app/other.py": "from app.registry import TABLE\ndef f(): return 1\nTABLE['x'] = f"},
        ("app/other.py", "1", "2"),
        {"app/other.py: f"},
    ),
    "put into a table by a method": Case(
        {
            "app/other.py": """
                import app.registry
                def f(): return 1
                app.registry.TABLE.update(x=f)
            """
        },
        ("app/other.py", "return 1", "return 2"),
        {"app/other.py: f"},
    ),
    "called": Case(
        {"app/other.py": "from library import set_threads\nset_threads(1)"},
        ("app/other.py", "1", "2"),
        {"app/other.py: <module>"},
    ),
    "called and assigned": Case(
        {"app/other.py": "from library import set_threads\nx = set_threads(1)"},
        ("app/other.py", "1", "2"),
        {"app/other.py: x"},
    ),
    "called in a loop": Case(
        {"app/other.py": "from app.registry import register\nfor n in 'xy': register(n)(print)"},
        ("app/other.py", "'xy'", "'xz'"),
        {"app/other.py: <module>", "app/other.py: n"},
    ),
    "called in the body of a class": Case(
        {"app/other.py": "from library import register\nclass C:\n    x = register(1)"},
        ("app/other.py", "1", "2"),
        {"app/other.py: C"},
    ),
    "called for a default": Case(
        {"app/other.py": "from library import register\ndef f(x=register(1)): pass"},
        ("app/other.py", "1", "2"),
        {"app/other.py: f"},
    ),
    "method called on an assigned object": Case(
        {"app/other.py": "import logging\nlog = logging.getLogger()\nlog.setLevel(1)"},
        ("app/other.py", "1", "2"),
        {"app/other.py: log"},
    ),
    "object of a class that records its objects": Case(
        {
            "app/other.py": """
                ALL = []
                class C:
                    def __init__(self, n): ALL.append(n)
                X = C(1)
            """
        },
        ("app/other.py", "C(1)", "C(2)"),
        {"app/other.py: X"},
    ),
    "function that records its calls": Case(
        {
            "app/other.py": """
                def note(n):
                    global LAST
                    LAST = n
                X = note(1)
            """
        },
        ("app/other.py", "note(1)", "note(2)"),
        {"app/other.py: X"},
    ),
    "function that calls one that records its calls": Case(
        {
            "app/other.py": """
                from app.registry import TABLE
                def note(n): TABLE[n] = n
                def make(n): return note(n)
                X = make(1)
            """
        },
        ("app/other.py", "make(1)", "make(2)"),
        {"app/other.py: X"},
    ),
    "class that records its subclasses": Case(
        {
            "app/other.py": """
                from app.base import B
                class C(B):
                    def f(self): return 1
            """,
            "app/base.py": """
                class A:
                    def __init_subclass__(cls): ALL.append(cls)
                class B(A): pass
                ALL = []
            """,
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: C"},
    ),
    "class with a metaclass": Case(
        {
            "app/other.py": """
                class Meta(type):
                    def __init__(cls, *args): ALL.append(cls)
                ALL = []
                class C(metaclass=Meta):
                    def f(self): return 1
            """
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: C"},
    ),
    "class derived from an unknown class": Case(
        {"app/other.py": "from library import Plugin\nclass C(Plugin):\n    x = 1"},
        ("app/other.py", "1", "2"),
        {"app/other.py: C"},
    ),
    "enumeration that records its members": Case(
        {
            "app/other.py": """
                from enum import Enum
                from app.registry import TABLE
                class C(Enum):
                    A = 1
                    def __init__(self, n): TABLE[n] = n
            """
        },
        ("app/other.py", "1", "2"),
        {"app/other.py: C"},
    ),
    "copy of an object that records its creation": Case(
        {
            "app/other.py": """
                from app.registry import ALL
                class C:
                    def __init__(self, n): ALL.append(n)
                A = C(1)
                B = A.model_copy(update={"n": 2})
            """
        },
        ("app/other.py", "2", "3"),
        {"app/other.py: B"},
    ),
    "order of calls": Case(
        {"app/other.py": "from library import f, g\nf()\ng()"},
        ("app/other.py", "f()\ng()", "g()\nf()"),
        {"app/other.py: <module>"},
    ),
    "order of registrations": Case(
        {
            "app/other.py": """
                from library import register
                @register
                def f(): pass
                @register
                def g(): pass
            """
        },
        (
            "app/other.py",
            "@register\ndef f(): pass\n@register\ndef g(): pass\n",
            "@register\ndef g(): pass\n@register\ndef f(): pass\n",
        ),
        {"app/other.py: <module>"},
    ),
    "module imported by a module": Case(
        {"app/other.py": "import app.last", "app/last.py": "import library\nlibrary.configure(1)"},
        ("app/last.py", "1", "2"),
        {"app/last.py: library"},
    ),
    "package above a module": Case(
        {"app/__init__.py": "import library\nlibrary.configure(1)", "app/other.py": ""},
        ("app/__init__.py", "1", "2"),
        {"app/__init__.py: library"},
    ),
    "import removed": Case(
        {"app/other.py": "import app.last\nx = 1", "app/last.py": "print(1)"},
        ("app/other.py", "import app.last\n", ""),
        {"app/last.py: <module>"},
    ),
    "name that hides a harmless one": Case(
        {"app/other.py": "from library import d\ndataclass = d(1)\n@dataclass\nclass C: x = 1"},
        ("app/other.py", "x = 1", "x = 2"),
        {"app/other.py: C"},
    ),
    "key function": Case(
        {"app/other.py": "from library import note\nX = sorted([1, 2], key=note)"},
        ("app/other.py", "[1, 2]", "[1, 3]"),
        {"app/other.py: X"},
    ),
    # From here on: no import effect, so importers of the module do not depend on it.
    "constant": Case({"app/other.py": "X = [1, (2, 3)]"}, ("app/other.py", "3", "4")),
    "function": Case({"app/other.py": "def f(x=1): return x"}, ("app/other.py", "1", "2")),
    "logger": Case(
        {"app/other.py": "import logging\nlog = logging.getLogger('a')"},
        ("app/other.py", "'a'", "'b'"),
    ),
    "path": Case(
        {"app/other.py": "from pathlib import Path\nX = Path(__file__).resolve().parents[1] / 'a'"},
        ("app/other.py", "'a'", "'b'"),
    ),
    "cached function": Case(
        {"app/other.py": "import functools as ft\n@ft.lru_cache(maxsize=None)\ndef f(): return 1"},
        ("app/other.py", "1", "2"),
    ),
    "data class": Case(
        {
            "app/other.py": """
                import dataclasses
                @dataclasses.dataclass(frozen=True)
                class C:
                    x: int = dataclasses.field(default=1)
                    @property
                    def size(self): return self.x
                    @size.setter
                    def size(self, x): self.x = x
                X = {"a": C(1)}
            """
        },
        ("app/other.py", "C(1)", "C(2)"),
    ),
    "model with a validated default": Case(
        {
            "app/other.py": """
                from typing import Annotated
                from pydantic import BaseModel, ConfigDict, Field, model_validator
                Share = Annotated[float, Field(ge=0)]
                class Part(BaseModel, frozen=True):
                    share: Share = 0.5
                    @model_validator(mode="after")
                    def check(self):
                        if any(x is None for x in (self.share,)):
                            raise ValueError(f"no {self.share}")
                        return self
                class Model(BaseModel):
                    model_config = ConfigDict(extra="forbid")
                    part: Part = Part(share=1)
            """
        },
        ("app/other.py", "share=1", "share=2"),
    ),
    "copy of a model": Case(
        {
            "app/other.py": """
                from pydantic import BaseModel
                class Part(BaseModel, frozen=True):
                    share: float = 0.5
                A = Part(share=1)
                B = A.model_copy(update={"share": 2})
            """
        },
        ("app/other.py", "2", "3"),
    ),
    "error": Case(
        {"app/other.py": "class A(ValueError): pass\nclass B(A):\n    x = 1"},
        ("app/other.py", "1", "2"),
    ),
    "enumeration": Case(
        {"app/other.py": "from enum import StrEnum\nclass E(StrEnum):\n    A = 'a'"},
        ("app/other.py", "'a'", "'b'"),
    ),
    "function without side effects": Case(
        {"app/other.py": "def f(n):\n    x = [n]\n    return len(x)\nX = f(1)"},
        ("app/other.py", "f(1)", "f(2)"),
    ),
    "script guard": Case(
        {"app/other.py": "import library\nif __name__ == '__main__':\n    library.run(1)"},
        ("app/other.py", "1", "2"),
    ),
    "order of imports for type checking": Case(
        {
            "app/other.py": """
                from typing import TYPE_CHECKING
                if TYPE_CHECKING:
                    import a
                    import b
            """
        },
        ("app/other.py", "    import a\n    import b", "    import b\n    import a"),
    ),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_import_effects_count(name: str, tmp_path: Path) -> None:
    case = EFFECTS[name]
    write(tmp_path, {"app/step.py": IMPORTING, "app/registry.py": REGISTRY, **case.files})

    assert edited(tmp_path, *case.edit) == case.changed
