"""HTML pages from this package's templates."""

from typing import Any

import jinja2

from digits.escaping.terminal import lines


def page_environment() -> jinja2.Environment:
    """Return an environment that escapes every value and raises an error for a missing one.

    Escaping does not cover characters that turn the direction of the text around them.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader("digits"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _without_controls(value: Any) -> Any:
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return lines(value) if is_text else value
