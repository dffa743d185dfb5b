"""The report as one self-contained HTML page: the recommendation, then sections.

The page works without scripts: the choice of a metric is CSS. Its single script copies the command and opens the data
tables for printing; the page's content security policy blocks any other script.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from distill_at_scale.facts import count_of
from distill_at_scale.report.figures import numbers
from distill_at_scale.report.figures.document import stylesheet
from distill_at_scale.report.figures.markup import Markup, id_of, join, tag
from distill_at_scale.report.html.sections import Section, figure_sections, metrics
from distill_at_scale.report.html.tables import table
from distill_at_scale.report.words import savings, several

if TYPE_CHECKING:
    from distill_at_scale.pipelines.report import Failure, ReportResult


def html_page(result: ReportResult) -> str:
    """Returns the whole page."""
    closing = [section for section in (_full(result), _failed(result), _made(result)) if section is not None]
    sections = [*figure_sections(result), *closing]
    chooser = _chooser(list(metrics(result))) if result.cells and result.by_metric else None
    style, script = join(stylesheet(), _file("style.css"), _choices(list(metrics(result)))), _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    title = f"What small datasets of {result.dataset} keep"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", style),
    )
    notes = [tag("p", note, class_="warn") for note in result.notes]
    links = [tag("a", name, href=f"#{key}") for key, name, _ in sections]
    body = tag(
        "main",
        tag("header", tag("h1", title), tag("p", _about(result), class_="dim"), *notes),
        _advice(result),
        tag("nav", *links, aria_label="sections"),
        chooser,
        *(tag("section", tag("h2", name), content, id=key) for key, name, content in sections),
        tag("script", script),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _file(name: str) -> Markup:
    return Markup(resources.files(__package__).joinpath(name).read_text("utf-8"))


def _chooser(names: Sequence[str]) -> Markup:
    """Returns radio buttons for the metric of the figures; the first is selected."""
    buttons = [
        tag("label", tag("input", type="radio", name="metric", id=id_of("choose", name), checked=k == 0), name)
        for k, name in enumerate(names)
    ]
    return tag("fieldset", tag("legend", "Figures show"), *buttons, class_="chooser")


def _choices(names: Sequence[str]) -> Markup:
    """Returns CSS that shows the blocks of the selected metric, or of the first one without a selection."""
    first = id_of("metric", names[0])
    rules = [f"main:has(#{id_of('choose', name)}:checked) .{id_of('metric', name)}" for name in names]
    hidden = ".by-metric { display: none; }"
    shown = f"{', '.join(rules)}, main:not(:has(.chooser)) .{first} {{ display: block; }}"
    old = f"@supports not selector(:has(a)) {{ .chooser {{ display: none; }} .{first} {{ display: block; }} }}"
    return Markup(f"\n{hidden}\n{shown}\n{old}\n")


def headline(result: ReportResult) -> str:
    """Returns the recommendation in one or two sentences."""
    best = result.recommended
    if best is None:
        return "No method has a model fitted on both its small and the full data yet, so nothing can be recommended."
    kept = f"{numbers.percent(best.kept)} of ndcg@10"
    if best.kept_low is not None:
        kept += f" (90 % interval {numbers.interval(best.kept_low, best.kept_high, best.users_only)})"
    name, wanted = f"{best.method} at {numbers.budget(best.budget)}", numbers.budget(result.keep)
    probable = f"with a probability of {result.probability or 0.0:.2f}"
    if not result.met:
        return f"No method is sure to keep {wanted}: keep all data. Nearest is {name}: {kept}, and {wanted} {probable}."
    told = f"{name} is the advice: it keeps {kept}, and {wanted} {probable}."
    if best.kept_low is None:
        return told
    if all(cell.users_only for cell in result.cells):
        return f"{told} One seed cannot show how new samples vary, so none is called safe; sweep with --seeds 3."
    if result.safe is None:
        return f"{told} No method's whole interval for a new sample lies above {wanted}."
    if result.safe == best:
        return f"{told} Its whole interval for a new sample lies above {wanted}."
    safe = f"{result.safe.method} at {numbers.budget(result.safe.budget)}"
    return f"{told} The safe choice is {safe}: its whole interval for a new sample lies above {wanted}."


def _about(result: ReportResult) -> str:
    models, seeds = len(result.full), len(result.seeds)
    parts = [f"{len(result.cells)} small datasets", count_of(models, "model"), count_of(seeds, "seed")]
    failed = f", {len(result.failed)} failed" if result.failed else ""
    place = f"{result.data} ({result.fingerprint})"
    return f"{', '.join(parts)}; {result.trials:,} trials{failed}. Dataset: {place}; sweep: {result.sweep}."


def _advice(result: ReportResult) -> Markup:
    best = result.recommended
    if best is None:
        return tag("div", tag("p", headline(result)), class_="advice", id="recommendation")
    tau = None if best.tau_low is None else f"{numbers.plain(best.tau_low)} to {numbers.plain(best.tau_high)}"
    bytes_share = best.bytes / result.full_bytes if best.bytes and result.full_bytes else None
    instead = f"instead of {numbers.cpu(best.fit_full_cpu_s)}"
    rounds = "rounds of training" if best.pays_after is not None else None
    facts = [
        (
            "of ndcg@10 kept",
            numbers.percent(best.kept),
            numbers.interval(best.kept_low, best.kept_high, best.users_only),
        ),
        ("a new sample keeps", numbers.interval(best.new_low, best.new_high), "90 % interval"),
        ("Kendall's τ of the models' ranking", numbers.plain(best.tau), tau),
        (
            "train rows" if best.unit == "train rows" else f"{best.unit}, of the log's users",
            numbers.percent(best.share),
            None if best.rows is None else f"{best.rows:,.0f} {best.unit.removeprefix('train ')}",
        ),
        ("of the bytes of all train rows", numbers.percent(bytes_share), numbers.size(best.bytes)),
        ("making it", numbers.cpu(best.make_cpu_s), "CPU time"),
        (
            f"fitting {several(best.models)}",
            numbers.cpu(best.fit_cpu_s),
            instead,
        ),
        ("pays off after", numbers.rounds(best.pays_after), rounds),
    ]
    saved = savings(
        unit=best.unit,
        share=best.share,
        bytes_share=bytes_share,
        make_cpu_s=best.make_cpu_s,
        fit_share=best.fit_cpu_s / best.fit_full_cpu_s if best.fit_full_cpu_s else None,
        fit_cpu_s=best.fit_cpu_s,
        fit_full_cpu_s=best.fit_full_cpu_s,
        models=best.models,
    )
    told = [
        tag("div", tag("dt", name), tag("dd", value, None if small is None else tag("small", small)))
        for name, value, small in facts
    ]
    return tag(
        "div",
        tag("p", "Recommended" if result.met else "Most probable to keep enough", class_="dim"),
        tag("p", f"{best.method} at {numbers.budget(best.budget)}", class_="name"),
        tag("p", headline(result)),
        tag("p", " ".join(saved)),
        tag("dl", *told, class_="facts"),
        _wrapped(result.command or ""),
        class_="advice",
        id="recommendation",
    )


def _wrapped(command: str) -> Markup:
    """Returns a command that wraps only between words, and a button that copies it."""
    words = [join(tag("span", word), Markup(" ")) for word in command.split(" ")]
    # Without scripts the button stays hidden.
    return tag("div", tag("code", *words), tag("button", "Copy", type="button", hidden=True), class_="command")


def _full(result: ReportResult) -> Section | None:
    if not result.full:
        return None
    rows = [
        [f.model, numbers.percent(f.score, 2), numbers.percent(f.spread, 2), numbers.cpu(f.fit_cpu_s), str(f.n_seeds)]
        for f in result.full
    ]
    columns = ["model", "ndcg@10", "standard deviation over seeds", "CPU time of a fit", "seeds"]
    return "full", "Models on all rows", table("Test ndcg@10 of the models fitted on all rows", columns, rows)


def _failed(result: ReportResult) -> Section | None:
    if not result.failed:
        return None
    groups: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in result.failed:
        groups.setdefault((failure.method, failure.model, failure.reason), []).append(failure)
    rows = [[_trials(*key[:2], failures), key[2]] for key, failures in groups.items()]
    text = tag(
        "p", "The figures exclude failed trials; a cell that lacks a model is compared on its other models only."
    )
    shown = table("Failed trials", ["trials", "reason"], rows, words=["reason"])
    return "failed", f"{count_of(len(result.failed), 'trial')} failed", join(text, shown)


def _trials(method: str, model: str, failures: Sequence[Failure]) -> str:
    budgets, seeds = (sorted({getattr(failure, name) for failure in failures}) for name in ("budget", "seed"))
    return f"{method} at {', '.join(map(numbers.budget, budgets))}, {model}, seed {', '.join(map(str, seeds))}"


def _made(result: ReportResult) -> Section:
    settings = [[key, _setting(value)] for key, value in result.config.items() if value not in (None, {}, [])]
    settings.append(["seeds used", ", ".join(map(str, result.seeds))])
    versions = [[name, version] for name, version in result.versions.items()]
    content = [table("Settings", ["setting", "value"], settings, words=["value"])]
    if versions:
        content.append(table("Software", ["package", "version"], versions, words=["version"]))
    return "made", "How it was made", tag("div", *content, class_="panels")


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_setting(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value)
