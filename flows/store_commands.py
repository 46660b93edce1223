"""`digits store`: check the results in a store, copy them into one and back, probe a store."""

import click

from digits.errors import UsageError
from digits.progress import bars
from digits.settings import Settings
from flows import console
from flows.interrupts import interruptible


@click.group()
def store() -> None:
    """Check, copy or probe a store that several machines share: see DIGITS_STORE."""


@store.command()
@console.json_option
def check(as_json: bool) -> None:
    """Check every byte of all results, in DIGITS_STORE or, without it, in the local folders.

    Says what is corrupted or missing, and exits with 1 if anything is. What nothing names is no
    problem: `digits gc` deletes it when it is old.
    """
    console.show_logs()
    from digits.registry.place_check import check as check_place
    from digits.registry.places import current_place

    with interruptible(), bars(not console.is_quiet()):
        findings = check_place(current_place(Settings()))
    if as_json:
        console.print_json(findings.model_dump(mode="json"))
    else:
        for problem in findings.problems:
            console.echo(f"{problem.name}: {problem.found}")
        for name in findings.unreferenced:
            console.echo(f"{name}: not named by anything")
        console.echo(
            f"{findings.place}: folders: {findings.num_folders} "
            f"({findings.num_bytes / 1e6:.1f} MB), records: {findings.num_records}, "
            f"lines: {findings.num_lines}; problems: {len(findings.problems)}"
        )
    if findings.problems:
        raise click.exceptions.Exit(1)


@store.command()
@click.argument("source")
@click.argument("target")
@console.json_option
def copy(source: str, target: str, as_json: bool) -> None:
    """Copy all results from SOURCE to TARGET, each an address such as s3://bucket/x, or `local`.

    Everything is checked on both sides. What TARGET has is not sent again, so run it again after an
    interruption. Unfinished trainings and source files are not copied, nor refused batches from one
    store to another.
    """
    console.show_logs()
    from digits.intake.refused_copies import copy_refused
    from digits.registry.place_copy import copy as copy_results
    from digits.registry.places import place

    if source == target:
        raise UsageError("SOURCE and TARGET are the same place")
    settings = Settings()
    here, there = place(source, settings), place(target, settings)
    with interruptible(), bars(not console.is_quiet()):
        copied = copy_results(here, there)
        num_refused = copy_refused(here.settings, there.settings)
    if as_json:
        console.print_json({**copied.model_dump(mode="json"), "num_refused": num_refused})
    else:
        for name in copied.damaged:
            console.echo(f"{name}: missing or corrupted in {copied.source}, not copied")
        console.echo(
            f"copied to {copied.target}: folders: {copied.num_folders} "
            f"({copied.num_bytes / 1e6:.1f} MB), records: {copied.num_records}, "
            f"lines: {copied.num_lines}, refused batches: {num_refused}; "
            f"there already: {copied.num_there} folders"
        )
    if copied.damaged:
        raise click.exceptions.Exit(1)


@store.command()
def probe() -> None:
    """Check that DIGITS_STORE heeds conditions: of several writers, one may create an object."""
    console.show_logs()
    from digits.storage.remote.probe import probe_now

    console.echo(f"{probe_now(Settings())} heeds conditions: one of several writers was first")
