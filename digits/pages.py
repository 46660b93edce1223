"""HTML pages from this package's templates."""

import jinja2


def page_environment() -> jinja2.Environment:
    """Return an environment that escapes every value and raises an error for a missing one."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("digits"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
