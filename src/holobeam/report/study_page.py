"""The block of one study: what the paper claims, what we measured, and how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from holobeam.errors import HolobeamError
from holobeam.report.html import FILE_KINDS, Page, badge, folded, inline_svg, paragraphs
from holobeam.report.standing import Standing
from holobeam.report.study_figures import draw, figures_of
from holobeam.report.study_tables import (
    computed_table,
    finding_table,
    result_csv,
    result_table,
    setting_table,
    training_table,
)
from holobeam.report.study_words import (
    TONES,
    axis_words,
    looks,
    sample_words,
    setting_words,
    value_words,
)
from holobeam.report.style import PALETTE
from holobeam.report.tables import html_table, write_csv
from holobeam.studies.checks import Finding
from holobeam.studies.results import Results
from holobeam.studies.spec import FigureTable
from holobeam.studies.verdicts import Judgement


@dataclass(frozen=True)
class Shown:
    """A figure on a page: see :meth:`holobeam.report.html.Page.figure`."""

    name: str
    svg: str
    files: list[tuple[str, str]]
    keys: list[tuple[str, str, bool]]
    least: int


def add_figure(page: Page, shown: Shown, caption: str) -> None:
    """Put a figure of a study on a page."""
    page.figure(
        shown.name, shown.svg, caption, files=shown.files, keys=shown.keys, least=shown.least
    )


SHOWN_ROWS = 40
"""Rows up to which a table of results is open from the start."""


def verdict_badge(standing: Standing) -> str:
    """What may be said of the claim, or why nothing is said."""
    if standing.judgement is not None:
        return badge(standing.judgement.verdict, TONES[standing.judgement.verdict])
    if standing.has_numbers:
        return badge("no claim", "grey")
    return badge(standing.state, TONES[standing.state])


def add_study(page: Page, standing: Standing, folder: Path, href: str) -> list[Shown]:
    """Add the block of a study to a page, and write its files.

    Parameters
    ----------
    page
        Of the paper.
    standing
        The study.
    folder
        Of its files, made if missing.
    href
        Of the folder, from the page.

    Returns
    -------
    list of Shown
        Its figures, in order.
    """
    title = f"{standing.figure}: {standing.title}"
    page.section(standing.figure, title, standing.figure, verdict_badge(standing))
    folder.mkdir(parents=True, exist_ok=True)
    if standing.results is None:
        page.raw(_loud("red", "These results can't be read", [standing.problem]))
        return []
    study = standing.results.study
    page.raw(paragraphs(study.text))
    for box in _warnings(standing, standing.results):
        page.raw(box)
    made_by = _write_source(standing, folder, href)
    drawn: list[Shown] = []
    if standing.has_numbers:
        page.raw('<div class="study"><div class="figures">')
        drawn = _figures(page, standing, folder, href, made_by)
        page.raw(f"</div>{_claim(standing)}</div>")
        _tables(page, standing, standing.results, folder, href)
    else:
        page.raw(f'<div class="study alone">{_claim(standing)}</div>')
    page.raw(folded("How it was made", _made(standing, standing.results, made_by)))
    return drawn


def _loud(tone: str, title: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    head = f'<div class="loud" style="--tone:var(--{tone})"><b>{escape(title)}</b>'
    return f"{head}<ul>{items}</ul></div>"


def _warnings(standing: Standing, results: Results) -> Iterable[str]:
    """What a reader must not miss."""
    plan = results.plan
    if plan.skipped:
        yield _loud("violet", "Skipped: nothing of this was run", [plan.skipped])
    if standing.breaches:
        yield _loud("red", "A constraint is broken: an error of ours", standing.breaches)
    if plan.left_out:
        yield _loud("orange", "Left out", plan.left_out)
    if results.missing and not plan.skipped:
        line = f"{results.missing} channel results are still to come; run the study again"
        yield _loud("orange", "Not finished", [line])
    if plan.quick and not plan.skipped:
        line = f"{results.study.count} channels and a thin sweep: for a look, not for a verdict"
        yield _loud("slate", "Quick run", [line])
    if len(results.versions) > 1:
        yield _loud("orange", "Made with several versions", results.versions)
    busy = sum(timing.contended for timing in results.timings.values())
    if busy:
        line = f"{busy} of {len(results.timings)} times are upper bounds: repeat them when idle"
        yield _loud("grey", "Other work ran beside", [line])
    cannot = dict.fromkeys(f"{s.label}: {s.unsupported}" for s in _unsupported(results))
    if cannot:
        yield _loud("grey", "Not served", cannot)


def _unsupported(results: Results) -> Iterable[Any]:
    return (series for series in results.series.values() if series.unsupported)


def _write_source(standing: Standing, folder: Path, href: str) -> tuple[str, str]:
    """Write the study file beside its figures; returns its kind and address.

    Results of a run that did not keep the file's text come with the resolved study as JSON.
    """
    if standing.source:
        name = f"{standing.figure}.toml"
        (folder / name).write_text(standing.source, encoding="utf-8")
        return "TOML", f"{href}/{name}"
    name = f"{standing.figure}.resolved.json"
    text = json.dumps(standing.manifest.get("study", {}), indent=1, sort_keys=True) + "\n"
    (folder / name).write_text(text, encoding="utf-8")
    return "study as JSON", f"{href}/{name}"


def _figures(
    page: Page, standing: Standing, folder: Path, href: str, made_by: tuple[str, str]
) -> list[Shown]:
    results = standing.results
    assert results is not None
    drawn = []
    known = looks(results.study)
    for place, figure in enumerate(figures_of(results), 1):
        name = f"{standing.figure}-{place}"
        try:
            picture = draw(figure, results, name)
        except HolobeamError as error:
            page.raw(_loud("red", f"{figure.title}: this figure can't be drawn", [str(error)]))
            continue
        if picture is None:
            text = f"{escape(figure.title)}: nothing of this figure was run"
            page.raw(f'<div class="nothing">{text}</div>')
            continue
        svg = inline_svg(picture.save(folder), name, PALETTE, picture.alt)
        files = [(kind.upper(), f"{href}/{name}.{kind}") for kind in FILE_KINDS]
        there = {str(row[1]) for row in picture.rows}
        keys = [(x, look.colour, look.dashed) for x, look in known.items() if x in there]
        least = 760 if len(picture.figure.axes) > 1 else 500
        shown = Shown(name, svg, [*files, made_by], keys, least)
        add_figure(page, shown, _caption(figure, results))
        drawn.append(shown)
    return drawn


def _caption(figure: FigureTable, results: Results) -> str:
    parts = [escape(figure.caption)] if figure.caption else []
    if figure.kind == "field":
        parts.append("One channel; star: the user that the beam is for, rings: the others.")
        return " ".join(parts)
    timed = "milliseconds" in {figure.x, figure.y}
    if timed:
        parts.append("Times are medians; open markers: other work ran beside, upper bounds.")
    if figure.x in {"milliseconds", "dc_watts"}:
        parts.append("Dotted: the frontier, which nobody passes to the upper left.")
    elif not timed:
        count = max((len(series) for series in results.series.values()), default=0)
        bare = figure.x == "user_rate" or figure.y in {"median", "outage_user"}
        bands = "" if bare else "; bands and bars: 95 % confidence of the mean"
        some = "up to " if results.missing else ""
        what = sample_words(results.study)
        parts.append(f"{some}{count} {what}, the same for all{bands}.")
    return " ".join(parts)


def _claim(standing: Standing) -> str:
    """Make the column beside the figures: the claim, and what the data say of it."""
    results = standing.results
    assert results is not None
    claim = results.study.claim
    parts = []
    if claim is not None:
        notes = f'<div class="small">{paragraphs(claim.notes)}</div>' if claim.notes else ""
        quote = f"<blockquote>{escape(claim.text)}</blockquote>"
        parts.append(f"<div><h3>What the paper claims</h3>{quote}{notes}</div>")
    if standing.judgement is not None:
        parts.append(f"<div><h3>What we measured</h3>{_verdict(standing.judgement)}</div>")
    elif claim is not None:
        line = f"Nothing yet. {standing.waiting}"
        parts.append(f"<div><h3>What we measured</h3><p>{escape(line)}</p></div>")
    if standing.expectations and standing.has_numbers:
        items = _items([finding for _, finding in standing.expectations])
        parts.append(f"<div><h3>What we expected</h3>{items}</div>")
    return f"<aside>{''.join(parts)}</aside>" if parts else ""


def _verdict(judgement: Judgement) -> str:
    text = badge(judgement.verdict, TONES[judgement.verdict])
    settings = {finding.setting for finding in judgement.findings}
    nominal = [finding for finding in judgement.findings if not finding.setting]
    text += _items(nominal)
    if len(settings) > 1:
        text += f"<h4>Closest to holding: {escape(setting_words(judgement.closest))}</h4>"
        text += _items([f for f in judgement.findings if f.setting == judgement.closest])
    if judgement.lacking:
        items = "".join(f"<li>{escape(line)}</li>" for line in judgement.lacking)
        text += f"<h4>What a verdict would need</h4><ul>{items}</ul>"
    return text


def _items(findings: Sequence[Finding]) -> str:
    items = "".join(
        f"<li>{escape(f.text)}: {badge(f.decision, TONES[f.decision])} "
        f'<span class="small">{escape(f.detail)}</span></li>'
        for f in findings
    )
    return f"<ul>{items}</ul>" if items else ""


def _tables(page: Page, standing: Standing, results: Results, folder: Path, href: str) -> None:
    expected = [finding for _, finding in standing.expectations]
    claimed = list(standing.judgement.findings) if standing.judgement else []
    make = result_table if results.study.computed is None else computed_table
    columns, rows = make(results)
    write_csv(folder / "results.csv", *result_csv(results))
    link = (
        f'<p class="small">All settings, full precision: <a href="{href}/results.csv">CSV</a></p>'
    )
    table = _tall(html_table(columns, rows))
    page.raw(folded(f"Results ({len(rows)} rows)", table + link, len(rows) <= SHOWN_ROWS))
    columns, rows = training_table(results)
    if rows:
        page.raw(folded(f"Trainings ({len(rows)})", html_table(columns, rows), unfolded=True))
    if len(results.settings()) > 1:
        settings = html_table(*setting_table(results, standing.judgement))
        page.raw(folded(f"Settings ({len(results.settings())})", settings, unfolded=True))
    if expected or claimed:
        columns, rows = finding_table(expected, claimed)
        page.raw(folded(f"Findings ({len(rows)})", _tall(html_table(columns, rows))))


def _tall(table: str) -> str:
    return table.replace('class="scroll"', 'class="scroll tall"', 1)


def _made(standing: Standing, results: Results, made_by: tuple[str, str]) -> str:
    page = Page("")
    page.facts(_facts(standing, results))
    kind, address = made_by
    page.raw(f'<p>The study: <a href="{escape(address)}" download>{escape(kind)}</a></p>')
    if standing.source:
        page.raw(f"<pre>{escape(standing.source)}</pre>")
    return "".join(page.parts)


def _facts(standing: Standing, results: Results) -> list[tuple[str, str]]:
    study = results.study
    what = study.computed or study.channels
    drawn = what.model_dump(exclude_unset=True) if what else {}
    facts = [
        (sample_words(study), f"{study.count}, {_flat(drawn)}" if drawn else "not written yet"),
        ("seed", str(study.seed)),
    ]
    if study.computed is None:
        point = _flat(study.problem.model_dump(exclude_unset=True))
        facts.append(("operating point", point or "swept"))
    for name, table in study.frontends.items():
        facts.append((f"front-end {name}", _flat(table.model_dump(exclude_unset=True))))
    for kind, axes in (("sweep", study.sweep), ("varied", study.variations)):
        for axis, values in axes.items():
            facts.append(
                (
                    f"{kind}: {axis_words(axis)[0].removesuffix(':')}",
                    ", ".join(map(value_words, values)),
                )
            )
    for solver in study.solvers:
        starts = f", {solver.starts} starts" if solver.starts > 1 else ""
        options = f", {_flat(solver.options)}" if solver.options else ""
        facts.append((solver.label, f"{solver.name} ({solver.role}){options}{starts}"))
    facts += [("versions", line) for line in results.versions]
    facts += _timing_facts(results)
    results_of = "/".join(standing.folder.parts[-2:])
    return [*facts, ("results", results_of), ("state", standing.state)]


def _timing_facts(results: Results) -> list[tuple[str, str]]:
    timings = list(results.timings.values())
    if not timings:
        return []
    machines = dict.fromkeys(
        f"{_flat(t.machine)}, {t.device}, threads {t.threads}" for t in timings
    )
    busy = sum(timing.contended for timing in timings)
    facts = [("times measured on", line) for line in machines]
    text = f"{len(timings)}, of which {busy} beside other work (upper bounds)"
    return [*facts, ("times", text)]


def _flat(table: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')} {value_words(value)}" for key, value in table.items()
    )
