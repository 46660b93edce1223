"""A strict HTML parser: a tag left open or closed twice is an error."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

# Elements without an end tag; in SVG, matplotlib closes empty elements itself.
VOID = frozenset({"br", "img", "meta", "wbr"})


class Element:
    """A tag with its attributes and content."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.parts: list[Element | str] = []

    def __getitem__(self, attribute: str) -> str:
        return self.attributes[attribute]

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def text(self) -> str:
        """The text content, with whitespace collapsed."""
        return " ".join("".join(self._texts()).split())

    def all(self, selector: str) -> list["Element"]:
        """Return descendants that match "tag", ".class", "tag.class" or "#id", in page order."""
        match = re.fullmatch(r"(\w*)([.#]?)(\S*)", selector)
        assert match, selector
        tag, sign, name = match.groups()
        return [
            element
            for element in self.walk()
            if tag in ("", element.tag)
            and (sign != "." or name in element.classes)
            and (sign != "#" or name == element.attributes.get("id"))
        ]

    def one(self, selector: str) -> "Element":
        """Return the only descendant that matches."""
        [element] = self.all(selector)
        return element

    def rows(self) -> list[list[str]]:
        """Return the texts of a table's cells, row by row."""
        return [
            [cell.text for cell in row.walk() if cell.tag in ("th", "td")] for row in self.all("tr")
        ]

    def walk(self) -> Iterator["Element"]:
        """Yield every descendant in page order."""
        for part in self.parts:
            if isinstance(part, Element):
                yield part
                yield from part.walk()

    def _texts(self) -> Iterator[str]:
        for part in self.parts:
            if isinstance(part, Element):
                yield " " if part.tag == "br" else "".join(part._texts())
            else:
                yield part


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (
            f"<{tag}> at {self.getpos()} has a duplicate attribute"
        )
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].parts.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].parts.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, (
            f"</{tag}> at {self.getpos()} does not match <{self.open[-1].tag}>"
        )
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def parse_page(html: str) -> Element:
    """Parse a page into one element."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert len(parser.open) == 1, f"<{parser.open[-1].tag}> is left open"
    return parser.open[0]
