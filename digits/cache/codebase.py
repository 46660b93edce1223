"""The project's files as code reads them: modules, and the other files beneath the packages."""

import os
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

from digits.cache.modules import Module
from digits.errors import DigitsError

_NOT_RESOURCES = frozenset({".py", ".pyc", ".pyi", ".pyo"})


class Codebase:
    """The files of `packages` beneath `root` as they are now: later edits are not seen.

    Paths are relative to `root`, with slashes. Raises DigitsError for what cannot be read.
    """

    def __init__(self, root: Path, packages: tuple[str, ...]) -> None:
        self.packages = frozenset(packages)
        self._root = root
        self._contents = self._read()
        self._parsed: dict[str, Module] = {}

    @cached_property
    def modules(self) -> dict[str, str]:
        """The path of each module by its dotted name."""
        # Sorted, so that the __init__.py of a package comes after a module of the same name and
        # takes its place, as it does for Python.
        names = {_dotted(path): path for path in sorted(self._contents)}
        return {name: path for name, path in names.items() if name}

    @cached_property
    def resources(self) -> tuple[str, ...]:
        """The files that are no Python; hidden ones and editors' backups are left out."""
        return tuple(
            path
            for path in sorted(self._contents)
            if PurePosixPath(path).suffix not in _NOT_RESOURCES
        )

    @cached_property
    def _folders(self) -> frozenset[str]:
        parents = (PurePosixPath(path).parents for path in self._contents)
        return frozenset(str(folder).replace("/", ".") for one in parents for folder in one)

    def _is_package(self, folder: str) -> bool:
        return f"{folder}/__init__.py" in self._contents or folder in self.packages

    @cached_property
    def _named(self) -> dict[str, set[str]]:
        """Resources by each name that code may use: of the file or of a folder that holds it."""
        named: dict[str, set[str]] = defaultdict(set)
        for resource in self.resources:
            parts = PurePosixPath(resource).parts
            for end in range(1, len(parts) + 1):
                # A package's name stands for its code, not for the resources in its folder.
                if self._is_package("/".join(parts[:end])):
                    continue
                for start in range(end):
                    named["/".join(parts[start:end])].add(resource)
                named[".".join(parts[:end])].add(resource)
        return named

    def has(self, module: str) -> bool:
        """Whether there is such a module; a folder without __init__.py is one too."""
        return module in self.modules or module in self._folders

    def module(self, name: str) -> Module:
        """The parsed module; an empty one where a folder has no __init__.py."""
        if name not in self._parsed:
            self._parsed[name] = self._parse(name)
        return self._parsed[name]

    def _parse(self, name: str) -> Module:
        path = self.modules.get(name)
        if path is None:
            return Module(name, b"", self.packages)
        try:
            return Module(name, self.content(path), self.packages)
        except SyntaxError as error:
            raise DigitsError(
                f"{path}:{error.lineno or 1}: this is not Python ({error.msg}), so what the code "
                "depends on cannot be told: mend the file"
            ) from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise DigitsError(
                f"{path}:1: this cannot be parsed as Python ({error}): mend the file"
            ) from error

    def content(self, path: str) -> bytes:
        """The bytes of a file."""
        content = self._contents[path]
        if content is None:
            raise DigitsError(
                f"{path}:1: the file cannot be read, so what the code depends on cannot be told: "
                "restore the file or its permissions"
            )
        return content

    def is_known(self, path: str) -> bool:
        """Whether there was such a file."""
        return path in self._contents

    def digest_of_all(self) -> str:
        """SHA-256 over all files: their names, their bytes, and which cannot be read."""
        lines = [
            f"{path}\0{content if content is None else sha256(content).hexdigest()}"
            for path, content in sorted(self._contents.items())
        ]
        text = "\n".join([*sorted(self.packages), *lines])
        return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def digest(self, path: str) -> str:
        """SHA-256 of a file."""
        return sha256(self.content(path)).hexdigest()

    def resources_named(self, text: str) -> set[str]:
        """The resources that a string in code may mean: a name, a pattern, or ".html"."""
        found = set(self._named.get(text.removeprefix("./").strip("/"), ()))
        if text.startswith(".") and len(text) > 1:
            found |= {path for path in self.resources if path.endswith(text)}
        if any(sign in text for sign in "*?[") and any(map(str.isalnum, text)):
            pattern = text if "/" in text else f"*/{text}"
            found |= {path for path in self.resources if fnmatchcase(f"/{path}", f"*{pattern}")}
        return found

    def resources_in(self, resource: str) -> set[str]:
        """The resources whose file names stand in another one: an included template."""
        content = self.content(resource)
        return {other for other in self.resources if PurePosixPath(other).name.encode() in content}

    def changed_files(self) -> list[str]:
        """The files that differ now on the disk, and those that came or went."""
        return sorted({path for path, _ in self._read().items() ^ self._contents.items()})

    def _read(self) -> dict[str, bytes | None]:
        """Every file by its path; None for one that cannot be read."""
        contents: dict[str, bytes | None] = {}
        for path in self._listed():
            try:
                contents[path] = (self._root / path).read_bytes()
            except OSError:
                contents[path] = None
        return contents

    def _listed(self) -> Iterator[str]:
        for package in self.packages:
            if (self._root / f"{package}.py").is_file():
                yield f"{package}.py"
            seen: set[str] = set()
            for folder, folders, files in os.walk(self._root / package, followlinks=True):
                resolved = os.path.realpath(folder)
                if resolved in seen:  # a link that leads back
                    folders.clear()
                    continue
                seen.add(resolved)
                folders[:] = [name for name in folders if _is_kept(name)]
                prefix = Path(folder).relative_to(self._root).as_posix()
                yield from (f"{prefix}/{name}" for name in files if _is_kept(name))


def _is_kept(name: str) -> bool:
    return name != "__pycache__" and not name.startswith(".") and not name.endswith(("~", ".pyc"))


def _dotted(path: str) -> str | None:
    if not path.endswith(".py"):
        return None
    parts = path.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) if all(part.isidentifier() for part in parts) else None
