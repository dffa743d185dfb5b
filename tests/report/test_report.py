"""report: what a sweep found as one page; its numbers against their definitions, its HTML for soundness."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_kit as kit

from distill_at_scale import cli, report
from distill_at_scale.data import storage
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.report import ReportResult
from distill_at_scale.report.html import headline

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

VOID = {"meta", "br", "input"}
METRICS = ("ndcg@10", "hr@10", "psp@10", "ndcg@100", "hr@100", "psp@100")


class Soundness(HTMLParser):
    """Reads a page and refuses what browsers would mend silently."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.pictures: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        assert len(given) == len(attributes), f"<{tag}> has an attribute twice"
        assert not {"src", "onclick", "onload"} & set(given)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.append(given["id"] or "")
        if "href" in given:
            self.links.append(given["href"] or "")
        if tag == "svg":
            self.pictures.append(given)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            assert tag == "td" or given["scope"] in ("row", "col")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] in (["td"], ["th"]):
            self.tables[-1][-1][-1] += data

    def table(self, *columns: str, of: int = 1) -> list[list[str]]:
        """Rows of the table with these heads; of as many the first, as of those for each metric."""
        found = [table for table in self.tables if table and table[0] == list(columns)]
        assert len(found) == of
        return found[0][1:]


def page_of(result: ReportResult) -> Soundness:
    return Soundness(Path(result.uri).read_text())


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ReportResult:
    folder = tmp_path_factory.mktemp("report")
    broken = {("temporal", 0.02, "ease"), ("random", 0.1, "svd_ae")}
    trials = [
        kit.fail(row, 'no <b>memory</b> & no "time"') if (row["method"], row["budget"], row["model"]) in broken else row
        for row in kit.rows()
    ]
    sweep = kit.write_sweep(folder / "sweep", trials, models=list(kit.MODELS))
    return report.write_report(sweep=sweep, output=str(folder / "report.html"), keep=0.85)


def test_the_page_needs_nothing_but_itself(result: ReportResult) -> None:
    text, page = Path(result.uri).read_text(), page_of(result)
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert not {"link", "img", "iframe", "object", "base"} & page.tags
    assert "url(" not in text
    assert "@import" not in text
    assert "secret" not in text


def test_only_the_page_s_own_script_may_run(result: ReportResult) -> None:
    text = Path(result.uri).read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + digest + "'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">' in text


def test_every_metric_can_be_chosen(result: ReportResult) -> None:
    """Each has its own figures and tables, with its own numbers."""
    text, page = Path(result.uri).read_text(), page_of(result)
    assert list(result.by_metric) == list(METRICS[1:])
    buttons = re.findall(r'<input type="radio" name="metric" id="(.*?)"( checked)?>(.*?)</label>', text)
    assert [name for *_, name in buttons] == list(METRICS)
    assert [bool(checked) for _, checked, _ in buttons] == [True] + [False] * 5
    for ident, _, name in buttons:
        block = "metric-" + ident.removeprefix("choose-")
        # Quality, cost, transfer and bytes.
        assert text.count(f'<div class="by-metric {block}">') == 4
        assert f"main:has(#{ident}:checked) .{block}" in text
        assert f"{name} kept, % of full data" in text
    quality = [table[1:] for table in page.tables if table[0][4:6] == ["kept", "90 % interval"]]
    for metric, rows in zip(METRICS[1:], quality[1:]):
        for row, cell in zip(rows, result.by_metric[metric]):
            assert float(row[4].removesuffix(" %")) == pytest.approx(100 * cell.kept, abs=0.051)


def test_what_is_kept_of_another_metric_is_its_own_share(tmp_path: Path) -> None:
    """A metric that the small data halves, beside ndcg@10; its front is of its own, too."""
    trials = [
        {**row, "hr@10": 0.5 * row["hr@10"] if row["method"] == "head_users" else row["hr@10"]}
        for row in kit.rows(("random", "head_users"), noise=0.0)
    ]
    found = report.write_report(sweep=kit.write_sweep(tmp_path / "sweep", trials), output=str(tmp_path / "report.html"))
    for cell, other in zip(found.cells, found.by_metric["hr@10"]):
        assert (cell.method, cell.budget, cell.make_cpu_s) == (other.method, other.budget, other.make_cpu_s)
        assert other.kept == pytest.approx(cell.kept * (0.5 if cell.method == "head_users" else 1.0))
    assert {cell.method for cell in found.cells if cell.light} == {"head_users"}
    # Half of what head_users keeps is less than random keeps at the largest budget only.
    light = {(cell.method, cell.budget) for cell in found.by_metric["hr@10"] if cell.light}
    assert light == {("random", 0.3), *(("head_users", budget) for budget in kit.BUDGETS[:3])}


def test_every_axis_has_a_title(result: ReportResult) -> None:
    text = Path(result.uri).read_text()
    for picture in re.findall(r"<svg [^>]*aria-label.*?</svg>", text, re.DOTALL):
        titles = re.findall(r'class="(?:middle )?title">(.*?)</text>', picture)
        # The rows of "when does it pay?" are names.
        assert len(titles) == (1 if "rounds of training until it pays" in picture else 2), picture[:200]
        assert all("%" in title or "rounds" in title or "bytes" in title for title in titles)


def test_every_picture_is_told_and_has_its_data(result: ReportResult) -> None:
    page, text = page_of(result), Path(result.uri).read_text()
    shown = [picture for picture in page.pictures if picture.get("aria-hidden") is None]
    # For each metric a picture a method and two figures in two shapes; the one on rounds in two shapes.
    assert len(shown) == len(METRICS) * (len(kit.STRENGTHS) + 2 * 2) + 2
    assert all(picture["role"] == "img" and picture["aria-label"] and picture["viewbox"] for picture in shown)
    assert text.count("<desc>") == len(shown)
    assert text.count("<details>") == len(METRICS) * 4 + 2
    assert text.count("<caption>") == len(page.tables)


def test_the_tables_say_what_the_cells_say(result: ReportResult) -> None:
    page = page_of(result)
    rows = page.table(
        "method", "budget", "rows", "share of rows", "kept", "90 % interval", "a new sample", "models", "seeds", of=6
    )
    assert len(rows) == len(result.cells) == len(kit.STRENGTHS) * len(kit.BUDGETS)
    for row, cell in zip(rows, result.cells):
        assert row[:2] == [cell.method, f"{100 * cell.budget:g} %"]
        assert float(row[4].removesuffix(" %")) == pytest.approx(100 * cell.kept, abs=0.051)
        # Those that all methods serve; a cell that lost one of its models stands for the others.
        few = {("temporal", 0.02): "infinite_ae, popularity, svd_ae"}
        assert row[7] == few.get((cell.method, cell.budget), "ease, infinite_ae")
    ranking = page.table("method", "budget", "τ", "90 % interval from", "to", "number of models")
    assert [row[2] for row in ranking if row[0] == "reversed" and row[1] in ("2 %", "5 %", "10 %")] == ["−1.000"] * 3
    heat = {row[0]: row[1:] for row in page.table("method", "2 %", "5 %", "10 %", "30 %")}
    assert heat["head_users"] == ["1.00"] * 4
    assert heat["reversed"] == ["−1.00"] * 3 + ["1.00"]
    # With a model less it is no ranking of all.
    assert heat["temporal"] == ["–", "1.00", "1.00", "1.00"]
    assert heat["sketch"] == ["–"] * 4
    reason = 'no <b>memory</b> & no "time"'
    assert page.table("trials", "reason") == [
        ["random at 10 %, svd_ae, seed 0, 1", reason],
        ["temporal at 2 %, ease, seed 0, 1", reason],
    ]


def test_the_transfer_matrix_has_each_model(result: ReportResult) -> None:
    assert result.recommended is not None
    tables = [table for table in page_of(result).tables if table[0] == ["method", *kit.MODELS]]
    assert len(tables) == len(kit.BUDGETS) * len(METRICS)
    shown = {row[0]: row[1:] for row in tables[0][1:]}
    for cell in result.cells:
        if cell.budget == result.recommended.budget:
            known = [cell.kept_by_model.get(model) for model in kit.MODELS]
            assert shown[cell.method] == ["–" if share is None else f"{100 * share:.1f} %" for share in known]


def test_no_cell_of_one_seed_is_safe(tmp_path: Path) -> None:
    sweep = kit.write_sweep(tmp_path / "sweep", kit.rows(("head_users",), seeds=1, noise=0.001))
    found = report.write_report(sweep=sweep, output=str(tmp_path / "report.html"), keep=0.5)
    assert found.recommended is not None
    assert found.recommended.kept_low is not None
    assert found.recommended.kept_low > 0.5
    assert found.safe is None
    assert "none is called safe; sweep with --seeds 3" in headline(found)
    rows = page_of(found).table(
        "method", "budget", "rows", "share of rows", "kept", "90 % interval", "a new sample", "models", "seeds", of=6
    )
    assert all(row[5].endswith("%, users only") and row[6] == "–" for row in rows)


@pytest.mark.parametrize(
    ("trials", "sections"),
    [
        pytest.param(
            kit.rows(seeds=1, noise=0.0, sized=False), "quality cost ranking transfer payback full made", id="no bytes"
        ),
        pytest.param([kit.fail(row, "lost") for row in kit.rows()], "failed made", id="all failed"),
        pytest.param(
            kit.rows(models=("ease",)),
            "quality cost ranking transfer payback bytes full made",
            id="one model",
        ),
        pytest.param(
            [{**row, "resampled": None, "fit_cpu_s": 0.0} for row in kit.rows(("random",), budgets=(0.1,), seeds=1)],
            "quality ranking transfer payback bytes full made",
            id="a single cell without intervals and costs",
        ),
    ],
)
def test_whatever_a_sweep_has_is_shown(tmp_path: Path, trials: list[dict], sections: str) -> None:
    sweep = kit.write_sweep(tmp_path / "sweep", trials)
    found = report.write_report(sweep=sweep, output=str(tmp_path / "report.html"))
    shown = re.findall(r'<section id="(.*?)">', Path(found.uri).read_text())
    assert shown == sections.split()
    assert set(shown) <= set(page_of(found).ids)


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    hostile = '</title><script>alert("1")</script>'
    trials = [
        {**row, "dataset": hostile, "method": row["method"] + "<&>'\"" * (row["method"] != "full")}
        for row in kit.rows(("random", "temporal"))
    ]
    found = report.write_report(sweep=kit.write_sweep(tmp_path / "sweep", trials), output=str(tmp_path / "report.html"))
    page = page_of(found)
    assert len(found.cells) == 8
    assert "alert" not in "".join(re.findall(r"<script>(.*?)</script>", Path(found.uri).read_text(), re.DOTALL))
    assert Path(found.uri).read_text().count("<script>") == 1
    assert {row[0] for row in page.table("method", "2 %", "5 %", "10 %", "30 %")} == {"random<&>'\"", "temporal<&>'\""}


def test_what_is_no_number_is_a_dash(tmp_path: Path) -> None:
    """Models that all score the same have no ranking: τ is unknown."""
    trials = [{**row, **dict.fromkeys(("ndcg@10", "hr@10", "psp@10", "auc"), 0.1)} for row in kit.rows(("random",))]
    trials = [{**row, **dict.fromkeys(("ndcg@100", "hr@100", "psp@100"), 0.1)} for row in trials]
    found = report.write_report(sweep=kit.write_sweep(tmp_path / "sweep", trials), output=str(tmp_path / "report.html"))
    assert [cell.tau for cell in found.cells] == [None] * 4
    assert page_of(found).table("method", "2 %", "5 %", "10 %", "30 %") == [["random", "–", "–", "–", "–"]]
    assert not any("nan" in text for table in page_of(found).tables for row in table for text in row)


def test_no_sweep_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"is not a sweep: sweep\.json is missing"):
        report.write_report(sweep=str(tmp_path), output=str(tmp_path / "report.html"))
    empty = kit.write_sweep(tmp_path / "sweep", [])
    with pytest.raises(DasError, match="no trial of the sweep has ended yet"):
        report.write_report(sweep=empty, output=str(tmp_path / "report.html"))
    (tmp_path / "sweep" / "trials.parquet").unlink()
    with pytest.raises(DasError, match=r"the sweep is unfinished, .*; run the same das sweep again, which goes on"):
        report.write_report(sweep=empty, output=str(tmp_path / "report.html"))
    assert not (tmp_path / "report.html").exists()


def test_a_page_replaces_only_a_page(tmp_path: Path) -> None:
    sweep, output = kit.write_sweep(tmp_path / "sweep", kit.rows()), tmp_path / "page.html"
    for before in ("", "\n<!DOCTYPE html><p>", "<html>"):
        output.write_text(before)
        report.write_report(sweep=sweep, output=str(output))
        assert output.read_text().startswith("<!doctype html>")
    described = (tmp_path / "sweep" / "sweep.json").read_bytes()
    with pytest.raises(DasError, match=r"sweep.json is not an HTML page; choose another --output"):
        report.write_report(sweep=sweep, output=f"{sweep}/sweep.json")
    assert (tmp_path / "sweep" / "sweep.json").read_bytes() == described


def test_the_command_writes_the_page_and_says_what_is_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, output = kit.write_sweep(tmp_path / "sweep", kit.rows()), tmp_path / "page" / "report.html"
    for options in (["--json"], []):
        monkeypatch.setattr(
            "sys.argv", ["das", "report", "--sweep", sweep, "--output", str(output), "--keep", "0.9", *options]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        shown = capsys.readouterr().out
        assert "secret" not in shown
        if options:
            assert json.loads(shown.splitlines()[-1])["recommended"]["method"] == "head_users"
        else:
            assert "90 % with a probability of " in shown
            assert str(output) in shown
        assert output.read_text().startswith("<!doctype html>")
        output.unlink()


def test_what_a_sweep_did_not_do_is_said(tmp_path: Path) -> None:
    sweep = kit.write_sweep(tmp_path / "sweep", kit.rows(), left=1200, left_out=("mvae on sketch: learns otherwise",))
    told = report.write_report(sweep=sweep, output=str(tmp_path / "report.html")).notes
    assert told == [
        "For 1,200 trials the time budget did not suffice.",
        "Left out: mvae on sketch: learns otherwise.",
    ]
    about = storage.read_json(f"{sweep}/sweep.json")
    storage.write_json(f"{sweep}/sweep.json", {key: value for key, value in about.items() if key != "result"})
    found = report.write_report(sweep=sweep, output=str(tmp_path / "report.html"))
    assert "The sweep had not ended when this page was made." in Path(found.uri).read_text()
