"""The tools that benchmarks.remote_caches compares: how each fills a store, and how it is used.

Each has two machines, which are folders of this one. The first computes everything. The second is
made anew: it has the code, and its settings say where the store is.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.remote_store import QUIET, RUN
from benchmarks.unchanged import answering
from benchmarks.workspaces import DIGITS, timed
from digits.settings import ROOT, Settings
from tests.support.object_store import BUCKET, environment, free_ports

INTEGRATION = ("s3fs==2026.9.0", "boto3", "aws-profile-manager", "numpy")
PACKAGES = {
    "dvc": ("dvc==3.67.1", "dvc-s3==3.3.0"),
    "zenml": ("zenml[local,server]==0.98.0", *INTEGRATION),
}
SOURCES = [
    str(ROOT / "benchmarks" / name)
    for name in ("plain_script.py", "rivals/steps.py", "rivals/zenml_pipeline.py")
]
RAW = str(Settings().raw_dir / "mnist")
Commands = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Tool:
    """A tool, and the commands on its two machines, which are folders below `root`."""

    name: str
    root: Path
    variables: Mapping[str, str]
    # How its output names a step that was executed: a regular expression.
    executed: str
    fill: Commands
    renew: Commands
    # What users type when nothing changed: with the machine's own copies, and on a new machine.
    unchanged: Mapping[str, Commands]
    cold: Mapping[str, Commands]

    def run(self, commands: Commands, machine: str = "first") -> tuple[float, str]:
        """Run commands on a machine; return the seconds of all, and what they wrote."""
        done = [timed(each, self._environment(machine), self.root / machine) for each in commands]
        return sum(one.wall for one in done), "\n".join(one.output for one in done)

    def make_first(self) -> None:
        """Compute everything on the first machine, and bring it into the store."""
        (self.root / "first").mkdir(parents=True)
        self.run(self.fill)

    def make_second(self) -> None:
        """Make the second machine anew."""
        for name in ("second", "second-settings"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        (self.root / "second").mkdir()
        self.run(self.renew, "second")

    def training_images(self) -> set[str]:
        """Return the SHA-256 of the training images that the second machine got."""
        found = (self.root / "second").rglob("x_train*")
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    def _environment(self, machine: str) -> Mapping[str, str]:
        folder, settings = self.root / machine, str(self.root / f"{machine}-settings")
        return {
            **self.variables,
            "DIGITS_HOME": str(folder),
            "DIGITS_DATA_DIR": str(folder / "data"),
            "DIGITS_ARTIFACTS_DIR": str(folder / "artifacts"),
            "PREFECT_HOME": settings,
            "DVC_SITE_CACHE_DIR": settings,
            "ZENML_CONFIG_PATH": settings,
        }


def all_tools(
    root: Path, programs: Mapping[str, Path], store: str, prefect: str, zenml: str
) -> Sequence[Tool]:
    """Return the tools, given the addresses of the store and of the two servers of runs."""
    people = ("GIT_AUTHOR", "GIT_COMMITTER")
    variables = {
        **os.environ,
        **QUIET,
        **environment(store),
        **{f"{who}_{what}": "digits" for who in people for what in ("NAME", "EMAIL")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAW": RAW,
        # ZenML leaves what it loads there.
        "TMPDIR": str(root),
        "DVC_NO_ANALYTICS": "true",
        "PREFECT_API_URL": prefect,
        "ZENML_STORE_URL": zenml,
        "ZENML_ANALYTICS_OPT_IN": "false",
    }
    return (
        our_tool(root / "digits", {**variables, "PYTHONPATH": str(ROOT)}),
        dvc_tool(root / "dvc", variables, str(programs["dvc"] / "dvc")),
        zenml_tool(root / "zenml", variables, programs["zenml"]),
    )


def our_tool(root: Path, variables: Mapping[str, str]) -> Tool:
    run = [(*DIGITS, *RUN)]
    return Tool(
        "digits",
        root,
        variables,
        r'"([\w-]+)": "executed"',
        [("mkdir", "-p", "data/raw"), ("cp", "-r", RAW, "data/raw/mnist"), *run],
        [],
        {"`digits run`": run},
        {"`digits run`": run},
    )


def dvc_tool(root: Path, variables: Mapping[str, str], program: str) -> Tool:
    """Return DVC, with the steps in a git repository."""
    pull, repro, remote = (program, "pull"), (program, "repro"), (program, "remote")
    endpoint = ("endpointurl", variables["AWS_ENDPOINT_URL"])
    # The same remote twice: DVC verifies what it downloads only if it is told to.
    remotes = [
        command
        for name in ("store", "verified")
        for command in (
            (*remote, "add", name, f"s3://{BUCKET}/dvc"),
            (*remote, "modify", name, *endpoint),
        )
    ]
    return Tool(
        "DVC",
        root,
        variables,
        r"Running stage '(.+)'",
        [
            ("cp", *SOURCES, "."),
            ("python", "steps.py", "dvc.yaml"),
            ("git", "init", "-q"),
            (program, "init", "-q"),
            *remotes,
            (*remote, "default", "store"),
            (*remote, "modify", "verified", "verify", "true"),
            repro,
            ("git", "add", "."),
            ("git", "commit", "-qm", "Run the steps"),
            (program, "push"),
        ],
        [("git", "clone", "-q", str(root / "first"), ".")],
        {"`dvc repro`": [repro], "`dvc repro --pull`": [(*repro, "--pull")]},
        {
            "`dvc pull`, `dvc repro`": [pull, repro],
            "`dvc repro --pull`": [(*repro, "--pull")],
            "`dvc repro --pull --allow-missing`": [(*repro, "--pull", "--allow-missing")],
            "`dvc pull -r verified`, `dvc repro`": [(*pull, "-r", "verified"), repro],
        },
    )


def zenml_tool(root: Path, variables: Mapping[str, str], programs: Path) -> Tool:
    """Return ZenML, with a stack whose artifact store is the S3 server."""
    program, run = str(programs / "zenml"), (str(programs / "python"), "zenml_pipeline.py")
    register = (program, "artifact-store", "register", "store", "--flavor=s3")
    client = json.dumps({"endpoint_url": variables["AWS_ENDPOINT_URL"]})
    settings = [str(root / f"{machine}-settings") for machine in ("first", "second")]
    return Tool(
        "ZenML",
        root,
        variables,
        r'"([\w-]+)": "completed"',
        [
            ("cp", *SOURCES, "."),
            (*register, f"--path=s3://{BUCKET}/zenml", f"--client_kwargs={client}"),
            (program, "stack", "register", "remote", "-a", "store", "-o", "default"),
            (program, "stack", "set", "remote"),
            run,
        ],
        [
            ("cp", *SOURCES, "."),
            ("mkdir", settings[1]),
            ("cp", f"{settings[0]}/config.yaml", settings[1]),
        ],
        {"the pipeline": [run]},
        {"the pipeline": [run], "the pipeline, then load its artifacts": [(*run, "--load")]},
    )


@contextlib.contextmanager
def zenml_server(program: Path, root: Path) -> Iterator[str]:
    """Run ZenML's own server, with its SQLite database in a folder; yield its address."""
    (port,) = free_ports(1)
    variables = {**os.environ, "ZENML_CONFIG_PATH": str(root), "ZENML_ANALYTICS_OPT_IN": "false"}
    command = (program, "login", "--local", "--blocking", f"--port={port}")
    address = f"http://127.0.0.1:{port}"
    with answering(command, {**variables, "AUTO_OPEN_DASHBOARD": "false"}, f"{address}/health"):
        yield address
