"""Reads a project's source tree: its modules, and the other files in its packages."""

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
    """A snapshot of the files of `packages` under `root`; later edits are not seen.

    Paths are relative to `root`, with slashes. Raises DigitsError for a file that is unreadable or
    is not valid Python.
    """

    def __init__(self, root: Path, packages: tuple[str, ...]) -> None:
        self.packages = frozenset(packages)
        self._root = root
        self._contents = self._read()
        self._parsed: dict[str, Module] = {}

    @cached_property
    def modules(self) -> dict[str, str]:
        """The path of each module, by dotted name."""
        # Sorted, so that a package's __init__.py comes after a module of the same name and replaces
        # it: Python prefers the package, too.
        names = {_dotted(path): path for path in sorted(self._contents)}
        return {name: path for name, path in names.items() if name}

    @cached_property
    def resources(self) -> tuple[str, ...]:
        """The paths of non-Python files, without hidden files and editor backups."""
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
        """Resources by each name that code may use for them: the file's or a parent folder's."""
        named: dict[str, set[str]] = defaultdict(set)
        for resource in self.resources:
            parts = PurePosixPath(resource).parts
            for end in range(1, len(parts) + 1):
                # A package's name refers to its code, not to the resources in its folder.
                if self._is_package("/".join(parts[:end])):
                    continue
                for start in range(end):
                    named["/".join(parts[start:end])].add(resource)
                named[".".join(parts[:end])].add(resource)
        return named

    def has(self, module: str) -> bool:
        """Return whether a module exists; a folder without __init__.py counts as one."""
        return module in self.modules or module in self._folders

    def module(self, name: str) -> Module:
        """Return a parsed module; it is empty for a folder without __init__.py."""
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
                f"{path}:{error.lineno or 1}: invalid Python ({error.msg}), so the dependencies of "
                "the code are unknown; fix the file"
            ) from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise DigitsError(
                f"{path}:1: invalid Python ({error}), so the dependencies of the code are unknown; "
                "fix the file"
            ) from error

    def content(self, path: str) -> bytes:
        """Return the bytes of a file."""
        content = self._contents[path]
        if content is None:
            raise DigitsError(
                f"{path}:1: unreadable, so the dependencies of the code are unknown; restore the "
                "file or fix its permissions"
            )
        return content

    def is_known(self, path: str) -> bool:
        """Return whether the snapshot contains a file."""
        return path in self._contents

    def digest_of_all(self) -> str:
        """Return a SHA-256 of all files: their names, their bytes, and which are unreadable."""
        lines = [
            f"{path}\0{content if content is None else sha256(content).hexdigest()}"
            for path, content in sorted(self._contents.items())
        ]
        text = "\n".join([*sorted(self.packages), *lines])
        return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file."""
        return sha256(self.content(path)).hexdigest()

    def resources_named(self, text: str) -> set[str]:
        """Return the resources that a string in code may mean: a name, a pattern or a suffix."""
        found = set(self._named.get(text.removeprefix("./").strip("/"), ()))
        if text.startswith(".") and len(text) > 1:
            found |= {path for path in self.resources if path.endswith(text)}
        if any(sign in text for sign in "*?[") and any(map(str.isalnum, text)):
            pattern = text if "/" in text else f"*/{text}"
            found |= {path for path in self.resources if fnmatchcase(f"/{path}", f"*{pattern}")}
        return found

    def resources_in(self, resource: str) -> set[str]:
        """Return the resources whose file names occur in another one, such as its includes."""
        content = self.content(resource)
        return {other for other in self.resources if PurePosixPath(other).name.encode() in content}

    def changed_files(self) -> list[str]:
        """List the files that have been edited, added or deleted since the snapshot."""
        return sorted({path for path, _ in self._read().items() ^ self._contents.items()})

    def _read(self) -> dict[str, bytes | None]:
        """Read every file, by path; None if it is unreadable."""
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
                if resolved in seen:  # a symbolic link to a parent folder
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
