"""A page of text, tables and pictures: written once, rendered as Markdown and as one HTML file that needs no other."""

import base64
import dataclasses
import html
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells of text. `align` has a letter a column, "l" or "r"; by default all but the first are numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str = ""

    @property
    def sides(self) -> str:
        return self.align or "l" + "r" * (len(self.columns) - 1)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows, in words."""

    path: Path
    words: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it. Text may have *emphasis* and **strong emphasis**; a tuple of texts is a list.

    The first section of a page is the page's own title and opening.
    """

    title: str
    parts: Sequence[str | tuple[str, ...] | Table | Picture]


def write_page(sections: Sequence[Section], folder: Path, name: str) -> list[Path]:
    """Writes NAME.md and NAME.html to `folder`, which is made; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"md": to_markdown(sections, folder), "html": to_html(sections)}
    for kind, text in texts.items():
        (folder / f"{name}.{kind}").write_text(text, encoding="utf-8")
    return [folder / f"{name}.{kind}" for kind in texts]


def to_markdown(sections: Sequence[Section], folder: Path) -> str:
    """The page for a file in `folder`, from where its links go to the pictures."""
    blocks = []
    for level, section in enumerate(sections):
        blocks.append(f"{'##' if level else '#'} {section.title}")
        blocks += [_markdown(part, folder) for part in section.parts]
    return "\n\n".join(blocks) + "\n"


def _markdown(part, folder: Path) -> str:
    match part:
        case str():
            return part
        case tuple():
            return "\n".join(f"- {item}" for item in part)
        case Picture(path, words):
            return f"![{words}]({quote(os.path.relpath(path, folder))})"
        case Table(columns, rows):
            rules = "".join("---|" if side == "l" else "---:|" for side in part.sides)
            return "\n".join([_line(columns), f"|{rules}", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


# --- HTML -----------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --line: #d0d0d0; --soft: #f4f4f2; --ours: #a93226 }
@media (prefers-color-scheme: dark) { :root { --line: #444; --soft: #232323; --ours: #ec7063 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { line-height: 1.2 }
h2 { line-height: 1.3; margin-top: 2.5rem; font-size: 1.2rem }
em { color: var(--ours); font-style: normal; font-weight: 600 }
nav { background: var(--soft); border-radius: 8px; padding: .6rem 1rem }
.table { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; vertical-align: top; overflow-wrap: normal }
.l { text-align: left; min-width: 7rem }
.r { text-align: right }
td.r { white-space: nowrap }
figure { margin: 1rem 0 }
figcaption { font-size: .85rem }
img { max-width: 100%; height: auto; background: #fff; border-radius: 8px }
"""


def to_html(sections: Sequence[Section]) -> str:
    """The page with its pictures inside, for any width, light or dark, without scripts."""
    title = html.escape(sections[0].title)
    links = "".join(
        f'<li><a href="#s{at}">{html.escape(sections[at].title)}</a></li>' for at in range(1, len(sections))
    )
    body = []
    for at, section in enumerate(sections):
        heading = f'<h2 id="s{at}">{html.escape(section.title)}</h2>' if at else f"<h1>{title}</h1>"
        body += [heading, *(_html(part) for part in section.parts)]
        if at == 0 and links:
            body.append(f"<nav><details><summary>Contents</summary><ul>{links}</ul></details></nav>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _html(part) -> str:
    match part:
        case str():
            return f"<p>{_inline(part)}</p>"
        case tuple():
            return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in part)}</ul>"
        case Picture(path, words):
            data = base64.b64encode(path.read_bytes()).decode()
            words = html.escape(words)
            image = f'<img alt="{words}" src="data:image/png;base64,{data}">'
            return f"<figure>{image}<figcaption>{words}</figcaption></figure>"
        case Table(columns, rows):
            head = _row("th", columns, part.sides)
            lines = "\n".join(_row("td", row, part.sides) for row in rows)
            return f'<div class="table"><table>\n<thead>{head}</thead>\n<tbody>\n{lines}\n</tbody></table></div>'


def _row(tag: str, cells: Sequence[str], sides: str) -> str:
    cells = [f'<{tag} class="{side}">{_inline(cell)}</{tag}>' for cell, side in zip(cells, sides, strict=True)]
    return f"<tr>{''.join(cells)}</tr>"


def _inline(text: str) -> str:
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", text)
