"""The page of `das report` in a real browser, on a telephone's width and on a wide screen, light and dark."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import browser_kit
import pytest
import report_kit as kit

from distill_at_scale import report

WIDTHS = (400, 1400)
SCHEMES = (False, True)

# What a reader would complain of, measured in the page; every visible picture and text counts.
MEASURE = """
(() => {
  const visible = e => e.checkVisibility() && e.getClientRects().length > 0;
  const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const shared = (a, b, k) => Math.min(a[k + 2], b[k + 2]) - Math.max(a[k], b[k]);
  const touch = (a, b) => shared(a, b, 0) > 1 && shared(a, b, 1) > 2;
  const size = b => b.width + b.height;
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const light = colour => {
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255)
      .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/^rgba\\(0, 0, 0, 0\\)$|transparent/.test(colour)) return colour;
    }
    return 'white';
  };
  const contrast = (e, colour) => {
    const [a, b] = [light(colour), light(behind(e))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  };
  const pictures = [...document.querySelectorAll('svg')].filter(visible);
  const texts = pictures.flatMap(p => [...p.querySelectorAll('text')]);
  return {
    inner: innerWidth,
    scroll: document.documentElement.scrollWidth,
    wide: [...document.querySelectorAll('main *')]
      .filter(e => visible(e) && !e.closest('.scroll') && box(e)[2] > innerWidth + .5).map(e => e.tagName),
    pictures: pictures.map(p => ({
      name: p.getAttribute('aria-label'),
      size: [p.getBoundingClientRect().width, p.getBoundingClientRect().height],
      shapes: [...p.querySelectorAll('circle, line, polyline')].filter(s => size(s.getBBox()) > 0).length,
      outside: [...p.querySelectorAll('text, circle')].filter(t => {
        const [a, b] = [box(t), box(p)];
        return a[0] < b[0] - 1 || a[1] < b[1] - 1 || a[2] > b[2] + 1 || a[3] > b[3] + 1;
      }).map(t => t.textContent),
      overlaps: [...p.querySelectorAll('text')].flatMap((t, k, all) =>
        all.slice(k + 1).filter(o => touch(box(t), box(o))).map(o => t.textContent + ' / ' + o.textContent)),
    })),
    letters: Math.min(...texts.map(t => t.ownerSVGElement)
      .map(p => 12 * p.getBoundingClientRect().width / p.viewBox.baseVal.width)),
    contrast: Math.min(
      ...[...document.querySelectorAll('p, td, th, dt, dd, small, a, li, summary, caption, h1, h2, h3')].filter(visible)
        .map(e => contrast(e, getComputedStyle(e).color)),
      ...texts.map(t => contrast(t, getComputedStyle(t).fill)),
    ),
    coloured: new Set([...document.querySelectorAll('.heat td[style]')].filter(visible).map(behind)).size,
    paper: getComputedStyle(document.body).backgroundColor,
    tables: [...document.querySelectorAll('table')].filter(visible).length,
  };
})()
"""
UNFOLD = "document.querySelectorAll('details').forEach(d => { d.open = true; })"


FOLD = "document.querySelectorAll('details').forEach(d => { d.open = false; })"
METRICS = ("ndcg@10", "hr@10", "psp@10", "ndcg@100", "hr@100", "psp@100")
WHOLE = """
[...document.querySelectorAll('.panels > div, figure > svg, .advice, tr')]
  .every(e => getComputedStyle(e).breakInside === 'avoid')
"""
# The metrics that the visible axes name, and the number of visible pictures.
AXES = """
(() => {
  const titles = [...document.querySelectorAll('svg text.title')].filter(e => e.checkVisibility());
  const kept = titles.map(t => t.textContent.split(' kept, ')).filter(words => words.length == 2);
  return [[...new Set(kept.map(words => words[0]))],
          [...document.querySelectorAll('svg[role=img]')].filter(e => e.checkVisibility()).length];
})()
"""
# A headless page may not write to the clipboard: what it would have written is caught.
COPY = """
(async () => {
  let text = null;
  Object.defineProperty(navigator, 'clipboard', {value: {writeText: async words => { text = words; }}});
  const button = document.querySelector('.command button');
  const before = [button.hidden, button.textContent];
  button.click();
  await new Promise(resolve => setTimeout(resolve, 50));
  return [...before, text, button.textContent];
})()
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page of a sweep with many methods, measured in every shape; the browser is started once."""
    browser = browser_kit.find_browser()
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(browser_kit.NAMES)} is installed; apt-get install chromium")
    folder = tmp_path_factory.mktemp("browser")
    trials = kit.rows()
    # A real sweep has up to two dozen methods; copies of those of the rule, a little worse each, make a crowd.
    for k in range(4):
        trials += [
            {**row, "method": f"{row['method']}_{k}", "ndcg@10": row["ndcg@10"] * (0.97 - 0.02 * k)}
            for row in kit.rows(("random", "head_users", "temporal"))
            if row["method"] != "full"
        ]
    trials[-1] = kit.fail(trials[-1], "the worker was killed: it took more memory than the machine has " * 3)
    sweep = kit.write_sweep(folder / "sweep", trials, models=list(kit.MODELS), output="s3://bucket/" + "folder/" * 20)
    result = report.write_report(sweep=sweep, output=str(folder / "report.html"), keep=0.85)
    return {**asyncio.run(_look(browser, Path(result.uri), folder)), "command": result.command}


async def _look(browser: str, page: Path, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with browser_kit.open_page(browser, page, folder / "profile") as tab:
        for folded in (True, False):
            for width in WIDTHS:
                for dark in SCHEMES:
                    await tab.shape(width, dark)
                    found[width, dark, folded] = await tab.evaluate(MEASURE)
            await tab.evaluate(UNFOLD)
        # On paper: everything folded again, and shown by the style alone.
        await tab.evaluate(FOLD)
        await tab.shape(760, False, media="print")
        found["print"] = await tab.evaluate(MEASURE)
        found["kept whole"] = await tab.evaluate(WHOLE)
        await tab.shape(1400, False)
        found["chosen"] = []
        for metric in METRICS:
            await tab.evaluate(f"document.getElementById('choose-{metric.replace('@', '-')}').click()")
            found["chosen"].append(await tab.evaluate(AXES))
        await tab.evaluate("document.getElementById('choose-ndcg-10').click()")
        found["copied"] = await tab.evaluate(COPY)
        found["events"] = tab.events
        found["page"] = page.as_uri()
    return found


EVERY = pytest.mark.parametrize("folded", [True, False], ids=["folded", "unfolded"])
SHAPES = pytest.mark.parametrize(("width", "dark"), [(w, d) for w in WIDTHS for d in SCHEMES])


def test_no_complaint_and_no_network(seen: dict[str, Any]) -> None:
    complaints = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Network.loadingFailed"}
    assert [event for event in seen["events"] if event["method"] in complaints] == []
    asked = [e["params"]["request"]["url"] for e in seen["events"] if e["method"] == "Network.requestWillBeSent"]
    assert asked == [seen["page"]]


@SHAPES
@EVERY
def test_nothing_is_wider_than_the_window(seen: dict[str, Any], width: int, dark: bool, folded: bool) -> None:
    page = seen[width, dark, folded]
    assert page["inner"] == width
    assert page["scroll"] <= width
    assert page["wide"] == []


@SHAPES
def test_every_figure_is_drawn(seen: dict[str, Any], width: int, dark: bool) -> None:
    page = seen[width, dark, True]
    named = [picture for picture in page["pictures"] if picture["name"]]
    assert len(named) == len(kit.STRENGTHS) + 12 + 3
    for picture in named:
        assert min(picture["size"]) > 100, picture
        assert picture["shapes"] >= 12, picture
    # The legend of budgets, one mark each.
    assert len(page["pictures"]) - len(named) == len(kit.BUDGETS)
    assert page["coloured"] > 10


@SHAPES
def test_text_is_legible(seen: dict[str, Any], width: int, dark: bool) -> None:
    page = seen[width, dark, False]
    assert page["letters"] >= 11
    assert page["contrast"] >= 4.5
    for picture in page["pictures"]:
        assert picture["overlaps"] == [], picture["name"]
        assert picture["outside"] == [], picture["name"]


def test_dark_is_dark(seen: dict[str, Any]) -> None:
    assert seen[400, False, True]["paper"] == "rgb(255, 255, 255)"
    assert seen[400, True, True]["paper"] == "rgb(20, 23, 27)"


def test_paper_has_the_data_and_keeps_panels_whole(seen: dict[str, Any]) -> None:
    page, unfolded = seen["print"], seen[1400, False, False]
    assert page["tables"] == unfolded["tables"]
    assert len(page["pictures"]) == len(unfolded["pictures"])
    assert page["paper"] == "rgb(255, 255, 255)"
    assert seen["kept whole"] is True


def test_the_chosen_metric_is_shown(seen: dict[str, Any]) -> None:
    pictures = len(kit.STRENGTHS) + 12 + 3
    assert seen["chosen"] == [[[metric], pictures] for metric in METRICS]


def test_the_command_is_copied(seen: dict[str, Any]) -> None:
    hidden, label, text, after = seen["copied"]
    assert (hidden, label, after) == (False, "Copy", "Copied")
    assert text == seen["command"]


def test_unfolding_shows_the_data(seen: dict[str, Any]) -> None:
    """One table for each of five figures, and the transfer matrices of the budgets that are folded away."""
    assert seen[1400, False, False]["tables"] - seen[1400, False, True]["tables"] == 5 + len(kit.BUDGETS) - 1
