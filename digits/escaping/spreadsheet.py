"""Cells of CSV files, which spreadsheets open: they execute what looks like a formula."""

FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # also in full width
BEFORE = " \t\r\n\0'\""


def cell(text: str) -> str:
    """Return a cell that a spreadsheet shows as text: with an apostrophe if it may be a formula."""
    is_formula = text.lstrip(BEFORE).startswith(FORMULA) and not _is_number(text)
    return f"'{text}" if is_formula or text.startswith(("\t", "\r")) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
