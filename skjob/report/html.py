"""Build HTML and SVG in which every text is escaped unless it is `Html`, so that no value can be forgotten."""

from __future__ import annotations

import html
from collections.abc import Iterable

from skjob.errors import without_credentials
from skjob.utils.text import visible


class Html(str):
    """Text that is already HTML. Only this module makes it from plain text, by escaping."""

    __slots__ = ()


Child = str | None
"""`Html` is inserted as it is, other text is escaped, None is left out."""


def escaped(text: str) -> Html:
    """Escape a text: make control characters visible, remove passwords from addresses."""
    return text if isinstance(text, Html) else Html(html.escape(visible(without_credentials(text), lines=True)))


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Html:
    """Return an element. `class_` becomes the attribute `class`, `aria_label` becomes `aria-label`."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = "".join(escaped(child) for child in children if child is not None)
    if not content and name in ("rect", "path", "circle", "line", "meta"):
        return Html(f"<{name}{shown}/>" if name != "meta" else f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{content}</{name}>")


def joined(parts: Iterable[Child]) -> Html:
    """Concatenate parts."""
    return Html("".join(escaped(part) for part in parts if part is not None))


def table(heading: Iterable[str], rows: Iterable[Iterable[str]], caption: str = "") -> Html:
    """Return a table with a heading; its first column names the rows."""
    head = tag("tr", *(tag("th", cell, scope="col") for cell in heading))
    body = []
    for row in rows:
        first, *rest = row
        body.append(tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest)))
    inner = tag("table", tag("caption", caption) if caption else None, tag("thead", head), tag("tbody", *body))
    return scrollable(inner, caption or "table")


def scrollable(content: Html, label: str) -> Html:
    """Return content that scrolls sideways if it is too wide, by keyboard as well."""
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def folded(summary: str, content: Html) -> Html:
    """Return content that is hidden until its summary is clicked, or activated by keyboard."""
    return tag("details", tag("summary", summary), content)


def _value(value: str | float) -> str:
    return (
        number(value)
        if isinstance(value, int | float)
        else html.escape(visible(without_credentials(str(value))), quote=True)
    )


def number(value: float) -> str:
    """Return a coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")
