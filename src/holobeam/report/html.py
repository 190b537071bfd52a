"""One self-contained page: style, script and figures inside, no other host needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from holobeam.report.tables import Cell, Column, Markup, Value, html_table


def inline_svg(svg: str, name: str, palette: Mapping[str, str], alt: str) -> str:
    """Turn a stand-alone SVG into an element of a page that follows the page's theme.

    Parameters
    ----------
    svg
        Text of an SVG file.
    name
        Put before every id, so that several figures can share a page.
    palette
        Colours that become CSS variables ``--name``, with themselves as fallback.
    alt
        Description for those who can't see it.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body).replace("xlink:href", "href")
    # Ids that nothing refers to are dropped: files repeat some of them.
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))
    body = re.sub(r'\sid="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    for key, colour in palette.items():
        body = re.sub(f"{colour}(?![0-9a-f])", f"var(--{key},{colour})", body, flags=re.IGNORECASE)
    body = body.replace("'DejaVu Sans'", "'DejaVu Sans',Verdana,sans-serif")
    opening = f'<svg role="img" aria-label="{escape(alt)}" viewBox="\\1">'
    return re.sub(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', opening, body, count=1)


@dataclass
class Page:
    """A page that is built from top to bottom.

    Attributes
    ----------
    title
        Of the page.
    lead
        HTML under the title.
    sections
        Anchors and titles, for the navigation.
    parts
        HTML in order.
    links
        Other pages of the site, their addresses and titles.
    """

    title: str
    lead: str = ""
    sections: list[tuple[str, str]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)

    def section(self, anchor: str, title: str, short: str = "", beside: str = "") -> None:
        """Begin a section.

        Parameters
        ----------
        anchor, title
            Its address on the page, and its heading.
        short
            What the navigation calls it, if not by its title.
        beside
            HTML after the heading's text.
        """
        if self.sections:
            self.parts.append("</section>")
        self.sections.append((anchor, short or title))
        head = f"{escape(title)} {beside}".strip()
        self.parts.append(f'<section id="{escape(anchor)}"><h2>{head}</h2>')

    def raw(self, markup: str) -> None:
        """Add HTML as it is."""
        self.parts.append(markup)

    def text(self, markup: str) -> None:
        """Add a paragraph of HTML."""
        self.parts.append(f"<p>{markup}</p>")

    def tiles(self, tiles: Sequence[tuple[str, str]]) -> None:
        """Add a row of large numbers, each with a line below."""
        cells = "".join(
            f"<div><strong>{escape(number)}</strong><span>{escape(text)}</span></div>"
            for number, text in tiles
        )
        self.parts.append(f'<div class="tiles">{cells}</div>')

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[Value | Markup | Cell]],
        caption: str = "",
    ) -> None:
        """Add a sortable table."""
        self.parts.append(html_table(columns, rows, caption))

    def figure(
        self,
        name: str,
        svg: str,
        caption: str,
        wide: bool = False,
        *,
        files: Sequence[tuple[str, str]] = (),
        keys: Sequence[tuple[str, str, bool]] = (),
        least: int = 0,
    ) -> None:
        """Add a figure with an HTML caption and links to its files, by default beside the page.

        ``keys`` are names of curves, their colours by name, and whether they are dashed: a legend
        for narrow screens, where a part of the drawing is out of sight.
        """
        named = files or [(kind.upper(), f"{name}.{kind}") for kind in FILE_KINDS]
        links = " · ".join(f'<a href="{escape(at)}">{escape(kind)}</a>' for kind, at in named)
        legend = "".join(
            f'<span><i style="border-color:var(--{colour})'
            f'{";border-top-style:dashed" if dashed else ""}"></i>{escape(label)}</span>'
            for label, colour, dashed in keys
        )
        legend = f'<div class="keys">{legend}</div>' if keys else ""
        room = f' style="--least:{least}px"' if least else ""
        self.parts.append(
            f'<figure class="{"wide" if wide else ""}"><div class="frame"{room}>{svg}</div>'
            f"{legend}"
            f'<figcaption>{caption} <span class="files">{links}</span></figcaption></figure>'
        )

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Add a list of names and values."""
        items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts)
        self.parts.append(f'<dl class="facts">{items}</dl>')

    def render(self) -> str:
        """Text of the whole page."""
        nav = "".join(f'<a href="#{a}">{escape(t)}</a>' for a, t in self.sections)
        nav = f"<nav>{nav}</nav>" if len(self.sections) > 1 else ""
        end = "</section>" if self.sections else ""
        pages = "".join(
            f'<a href="{escape(at)}">{escape(title)}</a>' if at else f"<b>{escape(title)}</b>"
            for at, title in self.links
        )
        pages = f'<div class="pages">{pages}</div>' if pages else ""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f"<title>{escape(self.title)}</title><style>{_asset('page.css')}</style></head><body>"
            f'<header><button id="theme" type="button" aria-label="light or dark">◐</button>'
            f"{pages}<h1>{escape(self.title)}</h1>{self.lead}</header>{nav}"
            f"<main>{''.join(self.parts)}{end}</main>"
            f"<script>{_asset('page.js')}</script></body></html>\n"
        )


def badge(text: str, tone: str) -> str:
    """Make a small coloured label; ``tone`` is the name of a colour of the palette."""
    return f'<span class="badge" style="--tone:var(--{escape(tone)})">{escape(text)}</span>'


def paragraphs(text: str) -> str:
    """Turn plain text into paragraphs at its blank lines; backticks make code."""
    blocks = [escape(" ".join(block.split())) for block in re.split(r"\n\s*\n", text.strip())]
    coded = [re.sub("`([^`]+)`", r"<code>\1</code>", block) for block in blocks if block]
    return "".join(f"<p>{block}</p>" for block in coded)


def folded(summary: str, markup: str, unfolded: bool = False) -> str:
    """Put HTML under a line of plain text that opens it."""
    state = " open" if unfolded else ""
    return f"<details{state}><summary>{escape(summary)}</summary>{markup}</details>"


FILE_KINDS = ("png", "svg", "csv")
"""What every figure is also written as."""


def _asset(name: str) -> str:
    return (files("holobeam.report") / name).read_text(encoding="utf-8")
