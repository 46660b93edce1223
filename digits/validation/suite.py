"""Evaluates a list of checks on a split's summary with Great Expectations."""

from collections.abc import Mapping, Sequence
from typing import Any

import great_expectations as gx
import numpy as np
import pandas as pd
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from digits.errors import DigitsError
from digits.thresholds import Severity, Thresholds
from digits.validation.checks import Check
from digits.validation.findings import MAX_ROWS, Finding, Part

# COMPLETE would list every failing row: megabytes if all of them fail.
RESULT_FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": MAX_ROWS}

# Severities as Great Expectations names them, and back.
GX_SEVERITY: Mapping[Severity, str] = {"error": "critical", "warning": "warning"}
SEVERITY: Mapping[str, Severity] = {"critical": "error", "warning": "warning"}

Result = Mapping[str, Any]


def evaluate(
    split: Part, frame: pd.DataFrame, checks: Sequence[Check], thresholds: Thresholds
) -> list[Finding]:
    """Return one finding per check that is not off, in the order of the checks.

    Raises:
        DigitsError: an expectation was not evaluated. Great Expectations drops an expectation of
            an unknown type without counting it as failed.
    """
    checks = [check for check in checks if thresholds.severity_of(check.name) != "off"]
    for number, check in enumerate(checks):
        check.expectation.severity = GX_SEVERITY[thresholds.severity_of(check.name)]
        check.expectation.meta = {"number": number}
    results = {
        result["expectation_config"]["meta"]["number"]: result
        for result in _run_suite(frame, checks)
        if not _exception(result)
    }
    part = "batch" if split == "batch" else f"{split} split"
    missing = [str(check) for number, check in enumerate(checks) if number not in results]
    if missing:
        raise DigitsError(
            f"Great Expectations {gx.__version__} evaluated {len(results)} of the {len(checks)}"
            f" expectations of the {part}; not evaluated: {', '.join(missing)}."
            " The data is not the cause: compare the installed version with the lock file"
        )
    return [_finding(split, frame, check, results[n]) for n, check in enumerate(checks)]


def _run_suite(frame: pd.DataFrame, checks: Sequence[Check]) -> list[Result]:
    """The results as JSON, since result objects render NumPy floats as `--`."""
    context = gx.get_context(mode="ephemeral", project_config=_context_config())
    asset = context.data_sources.add_pandas("summary").add_dataframe_asset("split")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite("suite", expectations=[check.expectation for check in checks])
    validated = batch.validate(suite, result_format=RESULT_FORMAT)
    return [result.to_json_dict() for result in validated.results]


def _context_config() -> DataContextConfig:
    """No files, not even a temporary folder for pages; no analytics; no progress bars."""
    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        # TQDM_DISABLE does not silence them.
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )


def _exception(result: Result) -> bool:
    """Whether evaluation raised; table and metric expectations report it in different forms."""
    information = result["exception_info"]
    return bool(information.get("raised_exception", True))


def _finding(split: Part, frame: pd.DataFrame, check: Check, result: Result) -> Finding:
    # The overall success of a suite ignores severities, so each result keeps its own.
    config = result["expectation_config"]
    rows, num_rows = ((), 0) if result["success"] else _rows_at_fault(frame, check, result)
    return Finding(
        split=split,
        check=check.name,
        column=check.column,
        expectation=config["type"],
        severity=SEVERITY[config["severity"]],
        success=result["success"],
        about=check.about,
        found=check.describe(frame, result["result"]),
        expected=check.expected,
        rows=rows,
        num_rows=num_rows,
    )


def _rows_at_fault(
    frame: pd.DataFrame, check: Check, result: Result
) -> tuple[tuple[int, ...], int]:
    """The first failing rows and the number of all; none if the split as a whole fails."""
    if check.fault_column is not None:
        marked = np.flatnonzero(frame[check.fault_column]).tolist()
        return tuple(marked[:MAX_ROWS]), len(marked)
    details = result["result"]
    rows = details.get("partial_unexpected_index_list", ())
    return tuple(rows), details.get("unexpected_count", 0)
