"""HTML pages from the templates of this package."""

import jinja2


def page_environment() -> jinja2.Environment:
    """Templates in which every value is escaped, and one that is missing is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("digits"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
