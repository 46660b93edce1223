"""Foreign text made inert, one module for each medium; jinja2 escapes HTML (digits.pages)."""
