"""Tables of short texts, for the terminal and for Jupyter."""

import html
from collections.abc import Sequence

__all__ = []

Rows = Sequence[Sequence[str]]


def text_table(rows: Rows, caption: str) -> str:
    """Aligned columns between rules; the first row is the header. Empty columns are left out."""
    shown = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in shown]
    lines = ["  ".join(row[i].ljust(w) for i, w in zip(shown, widths, strict=True)).rstrip() for row in rows]
    rule = "─" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:], rule, caption])


def html_table(rows: Rows, caption: str) -> str:
    """The same for Jupyter's `_repr_html_`, with all columns."""

    def cells(tag: str, row: Sequence[str]) -> str:
        style = "text-align: left; white-space: pre; font-family: monospace"
        return "<tr>" + "".join(f'<{tag} style="{style}">{html.escape(c)}</{tag}>' for c in row) + "</tr>"

    body = "".join(cells("td", row) for row in rows[1:])
    return f"<table><thead>{cells('th', rows[0])}</thead><tbody>{body}</tbody></table><p>{html.escape(caption)}</p>"
