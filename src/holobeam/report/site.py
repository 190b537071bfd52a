"""The site of a folder of results: a front page, and a page for each paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from holobeam import __version__
from holobeam.errors import FileError
from holobeam.report.html import Page, badge, folded
from holobeam.report.standing import Standing
from holobeam.report.study_page import Shown, add_figure, add_study, verdict_badge
from holobeam.report.study_words import TONES
from holobeam.report.tables import Column, Markup, Value
from holobeam.studies.checks import Decision
from holobeam.studies.verdicts import CHANNELS, VALUES, Verdict

PAPERS: dict[str, str] = {
    "mb-dnn": "A Model-based DNN for Learning HMIMO Beamforming",
    "mmse": "Minimum Mean Squared Error Holographic Beamforming for Sum-Rate Maximization",
    "multicell": "Holographic MIMO Multi-Cell Communications",
    "unfolded-pga": "Fast Deep Unfolded Hybrid Beamforming in Multiuser Large MIMO Systems",
    "ggml": "Robust Hybrid Precoding for Millimeter Wave MU-MISO System Via Meta-Learning",
    "holobeam": "Studies of our own",
}
"""Titles of papers, in the order of the site."""

OUR_READING = ("mmse", "multicell")
"""Papers that reached us without their formulas."""

FRONTIER = "holobeam/frontier"
"""Study whose first figure stands on the front page."""

SHOWN_AWAY = 8
"""Lines of what is not there that are open from the start."""

RULE = (
    "<b>Holds</b>, <b>holds in part</b> and <b>does not hold</b> are said only of runs at the "
    "paper's own sizes, budgets and baselines, beside converged ones, on at least "
    f"{CHANNELS} paired channels, with every setting that the paper leaves open varied over at "
    f"least {VALUES} values. Everything else is <b>not confirmed at this scale</b>, whatever the "
    "numbers look like."
)


def build_site(
    standings: Sequence[Standing],
    out: Path,
    progress: Callable[[str, float], None] | None = None,
) -> Path:
    """Write the site of some studies.

    Parameters
    ----------
    standings
        The studies, see :func:`holobeam.report.standing.read_standings`.
    out
        Folder, made if missing: ``index.html``, a page a paper, and a folder a study with its
        figures as SVG, PNG and CSV, its results as CSV and its study file.
    progress
        Called with what is being done and the share that is done.

    Returns
    -------
    Path
        The front page.

    Raises
    ------
    FileError
        If the folder can't be written.
    """
    tell = progress or (lambda _text, _share: None)
    papers = [slug for slug in PAPERS if any(s.paper == slug for s in standings)]
    papers += sorted({s.paper for s in standings} - set(papers))
    frontier: list[Shown] = []
    done = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        for paper in papers:
            page = _paper_page(paper, papers)
            for standing in (s for s in standings if s.paper == paper):
                tell(f"drawing {standing.name}", done / len(standings))
                href = f"{paper}/{standing.figure}"
                drawn = add_study(page, standing, out / paper / standing.figure, href)
                if standing.name == FRONTIER:
                    frontier = drawn
                done += 1
            (out / f"{paper}.html").write_text(page.render(), encoding="utf-8")
        index = out / "index.html"
        index.write_text(_front(standings, papers, frontier).render(), encoding="utf-8")
    except OSError as error:
        wrong = f"can't write {error.filename or out}: {error.strerror}"
        raise FileError("out", wrong, "choose another folder") from error
    tell("done", 1.0)
    return index


def _links(papers: Sequence[str], current: str) -> list[tuple[str, str]]:
    pages = [("index.html", "Overview"), *((f"{paper}.html", paper) for paper in papers)]
    return [("" if address == current else address, title) for address, title in pages]


def _paper_page(paper: str, papers: Sequence[str]) -> Page:
    lead = ""
    if paper in OUR_READING:
        lead = (
            "<p>This paper reached us without its formulas: what runs under its name is "
            "<b>our reading</b> of it.</p>"
        )
    return Page(PAPERS.get(paper, paper), lead, links=_links(papers, f"{paper}.html"))


def _front(standings: Sequence[Standing], papers: Sequence[str], frontier: Sequence[Shown]) -> Page:
    lead = (
        "<p>Every study beside what its paper claims: our curves, on the same channels for "
        "everyone, paired differences, and a verdict by one rule.</p>"
    )
    page = Page("What the papers claim, what we measured", lead, links=_links(papers, "index.html"))
    page.section("overview", "Overview")
    page.tiles(_tiles(standings))
    page.raw(_counts(standings))
    page.text(RULE)
    _overview(page, standings, papers)
    _away(page, standings)
    if frontier:
        page.section("frontier", "The frontier")
        text = f'Rate against time; more in <a href="holobeam.html#frontier">{FRONTIER}</a>.'
        page.raw('<div class="figures">')
        add_figure(page, frontier[0], text)
        page.raw("</div>")
    page.section("made", "How this site was made")
    versions = {line for s in standings if s.results for line in s.results.versions}
    made_with = [("results made with", line) for line in sorted(versions)]
    page.facts([("site made with", f"holobeam {__version__}"), *made_with])
    return page


def _tiles(standings: Sequence[Standing]) -> list[tuple[str, str]]:
    verdicts = Counter(s.judgement.verdict for s in standings if s.judgement is not None)
    numbers = sum(
        len(series) for s in standings if s.results for series in s.results.series.values()
    )
    expected = [f for s in standings if s.has_numbers for _, f in s.expectations]
    confirmed = sum(f.decision is Decision.CONFIRMED for f in expected)
    run = sum(s.has_numbers for s in standings)
    decided = sum(verdicts[v] for v in (Verdict.HOLDS, Verdict.PARTLY, Verdict.FAILS))
    return [
        (f"{run} of {len(standings)}", "studies with results"),
        (f"{decided} of {sum(verdicts.values())}", "claims that a verdict is given on"),
        (f"{confirmed} of {len(expected)}", "expectations confirmed at 99 %"),
        (f"{numbers:,}".replace(",", "\N{THIN SPACE}"), "channels solved and judged"),
    ]


def _counts(standings: Sequence[Standing]) -> str:
    """How many claims got which verdict, and how many got none."""
    verdicts = Counter(s.judgement.verdict for s in standings if s.judgement is not None)
    waiting = sum(bool(s.waiting) for s in standings)
    said = [(verdict, verdicts[verdict]) for verdict in Verdict] + [("skipped", waiting)]
    return f"<p>{' '.join(badge(f'{count} {text}', TONES[text]) for text, count in said)}</p>"


def _overview(page: Page, standings: Sequence[Standing], papers: Sequence[str]) -> None:
    columns = [
        Column("study"),
        Column("verdict", hint="by the rule above"),
        Column("what the paper claims"),
        Column("channels"),
        Column("claim", hint="relations of the claim confirmed, over all settings"),
        Column("expected", hint="expectations of the study file confirmed"),
        Column("state"),
    ]
    ordered = sorted(standings, key=lambda s: (papers.index(s.paper), s.figure))
    page.table(columns, [_overview_row(standing) for standing in ordered])


def _overview_row(standing: Standing) -> list[Value | Markup | str | float | int]:
    address = escape(f"{standing.paper}.html#{standing.figure}")
    name, title = escape(standing.name), escape(standing.title)
    claim = standing.results.study.claim if standing.results else None
    findings = [f for _, f in standing.expectations] if standing.has_numbers else []
    claimed = list(standing.judgement.findings) if standing.judgement else []
    return [
        Markup(f'<a href="{address}">{name}</a><br><span class="small">{title}</span>'),
        Markup(verdict_badge(standing)),
        Markup(f'<div class="claim">{escape(claim.text if claim else "")}</div>'),
        _channels(standing),
        _confirmed([f.decision for f in claimed]),
        _confirmed([f.decision for f in findings]),
        Markup(badge(standing.state, TONES[standing.state])),
    ]


def _channels(standing: Standing) -> Value:
    if standing.results is None or not standing.has_numbers:
        return Value("", float("nan"))
    fewest = min(len(s) for s in standing.results.series.values() if len(s))
    return Value(str(fewest), fewest)


def _confirmed(decisions: Sequence[Decision]) -> Value:
    if not decisions:
        return Value("", float("nan"))
    good = sum(decision is Decision.CONFIRMED for decision in decisions)
    return Value(f"{good} of {len(decisions)}", good / len(decisions))


def _away(page: Page, standings: Sequence[Standing]) -> None:
    """Say loudly who is not there."""
    lines = [s.waiting for s in standings if s.waiting]
    lines += [line for s in standings if s.results for line in s.results.plan.left_out]
    lines += [f"{s.name}: {s.problem}" for s in standings if s.problem]
    if lines:
        items = "".join(f"<li>{escape(line)}</li>" for line in dict.fromkeys(lines))
        count = f"Not there yet: {len(set(lines))}"
        listed = folded(count, f"<ul>{items}</ul>", len(lines) <= SHOWN_AWAY)
        page.raw(f'<div class="loud" style="--tone:var(--violet)">{listed}</div>')
