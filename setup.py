"""Adds the project's files outside its packages to a wheel, which could not run without them.

They go into a folder of their own: within a package, they would count as resources of its code.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = ("prefect.yaml", "automations.yaml", "data/datasets")


class BuildWithFiles(build_py):
    """Copy FILES to digits_project/; an editable install reads them in the checkout."""

    def run(self) -> None:
        """Build the packages, then copy the files."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "digits_project")
        shutil.rmtree(folder, ignore_errors=True)
        for name in FILES:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if Path(name).is_dir():
                shutil.copytree(name, target)
            else:
                shutil.copyfile(name, target)


setup(cmdclass={"build_py": BuildWithFiles})
