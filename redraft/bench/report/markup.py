"""HTML and SVG as nested calls; what is not markup already is escaped."""

from collections.abc import Iterable
from html import escape

__all__ = ["Html", "element", "joined"]


class Html(str):
    """Text that is markup and needs no escaping."""


def element(name: str, *children: str, **attributes: str | float | None) -> Html:
    """An element with its children; numbers are rounded to a tenth, attributes that are None left out.

    A trailing underscore of an attribute's name falls away and others become hyphens: class_, stroke_width.
    """
    opened = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{opened}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Html:
    """Children one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))


def _text(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{round(value, 1):g}"
