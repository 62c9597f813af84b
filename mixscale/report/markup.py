"""Pieces of HTML: escaped text, tables, figures and sections. Everything that comes from data is escaped here."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

FULL = 1280
"""Pixels across a figure that is as wide as the text."""


class Markup(str):
    """Text that is HTML already and is not escaped again."""


def escape(value: object) -> Markup:
    """`value` as HTML text; `Markup` passes as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def join(parts: Iterable[Markup], between: str = "\n") -> Markup:
    return Markup(between.join(parts))


def tag(name: str, content: object, css: str = "") -> Markup:
    opening = f'{name} class="{html.escape(css, quote=True)}"' if css else name
    return Markup(f"<{opening}>{escape(content)}</{name}>")


def table(
    headers: Sequence[object], rows: Iterable[Sequence[object]], css: str = "", foot: str = "", words: int = 1
) -> Markup:
    """A table that scrolls sideways where it is too wide; all columns after the first `words` hold numbers."""
    kind = ["" if i < words else ' class="n"' for i in range(len(headers))]
    head = "".join(f'<th scope="col"{k}>{escape(h)}</th>' for k, h in zip(kind, headers, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{k}>{escape(v)}</td>" for k, v in zip(kind, row, strict=True)) + "</tr>" for row in rows
    )
    note = tag("p", foot, "note") if foot else ""
    opening = f'<div class="scroll {css}" tabindex="0"><table>'
    return Markup(f"{opening}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>{note}")


def bar(share: float, low: float | None, high: float | None, longest: float) -> Markup:
    """A weight as a bar from zero, with its interval as a line over it; `longest` is the weight of a full bar."""
    full, line = 100 / longest, ""
    if low is not None and high is not None:
        line = f'<b style="left:{full * low:.2f}%;width:{max(full * (high - low), 0.5):.2f}%"></b>'
    return Markup(f'<span class="bar"><i style="width:{full * share:.2f}%"></i>{line}</span>')


def tiles(shown: Sequence[tuple[str, str, str, str]]) -> Markup:
    """Numbers to be seen first: label, value, what it rests on, and the class of the value."""
    cells = (
        f"<div>{tag('span', label)}{tag('b', value, css)}{tag('small', basis)}</div>"
        for label, value, basis, css in shown
    )
    return Markup(f'<div class="tiles">{"".join(cells)}</div>')


def picture(png: Path, caption: str) -> Markup:
    """A figure with its image inside the page; one narrower than the others is so there too, its type as large."""
    content = png.read_bytes()
    data = base64.b64encode(content).decode("ascii")
    pixels = int.from_bytes(content[16:20], "big")  # a PNG tells its width there
    alt = html.escape(caption, quote=True)
    image = f'<img src="data:image/png;base64,{data}" alt="{alt}" style="max-width:{100 * pixels / FULL:.4g}%">'
    return Markup(f"<figure><div>{image}</div>{tag('figcaption', caption)}</figure>")


def section(title: str, *parts: Markup) -> Markup:
    return Markup(f"<section>\n{tag('h2', title)}\n{join(parts)}\n</section>") if any(parts) else Markup("")


def details(summary: str, content: Markup) -> Markup:
    return Markup(f"<details>{tag('summary', summary)}{content}</details>")
