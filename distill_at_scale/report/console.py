"""Results of the verbs as tables on standard output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from math import isnan
from typing import TYPE_CHECKING, Any

from rich.text import Text

from distill_at_scale.data import storage
from distill_at_scale.data.readers.schema import ReadAs
from distill_at_scale.data.remaining import forgotten_users
from distill_at_scale.data.splits import tied_note
from distill_at_scale.data.times import NAMES
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.evaluation.slices import SLICES
from distill_at_scale.facts import byte_size, count_of
from distill_at_scale.report.layout import command, facts, grid, show

if TYPE_CHECKING:
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.data.manifest import Manifest
    from distill_at_scale.pipelines.compare import Comparison
    from distill_at_scale.pipelines.distill import DistillResult
    from distill_at_scale.pipelines.doctor import Check
    from distill_at_scale.pipelines.evaluate import Evaluation
    from distill_at_scale.pipelines.fetch import FetchResult
    from distill_at_scale.pipelines.fit import FitResult
    from distill_at_scale.pipelines.sample import Samples

_SHARDS_SHOWN = 6
_REASONS_SHOWN = 8
_TIED_HITS_SHOWN = 0.01
_POSITIONS = {"file": "positions of the rows in the files", "line": "positions of the items in their lines"}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def show_dataset(dataset: Dataset) -> None:
    """Prints a dataset on one screen: counts, splits, shards, lineage, quarantine."""
    m = dataset.manifest
    size = m.items.bytes + sum(s.data.bytes + s.users.bytes for s in m.shards)
    rule = dict(m.split_rule)
    name = rule.pop("name")
    parameters = f" ({', '.join(f'{key} {value}' for key, value in rule.items())})" if rule else ""
    lost = {reason: n for reason, n in m.dropped.items() if n}
    known = [
        *_read_as(m),
        ("users", f"{m.n_users:,} ({m.id_types['user_id']} ids)"),
        ("items", f"{m.n_items:,} ({m.id_types['item_id']} ids)"),
        ("rows", f"{m.n_rows:,}, {m.n_rows / max(m.n_users, 1):.1f} a user"),
        ("splits", f"{_counts(m.splits)}; by {name}{parameters}"),
        ("ratings", (m.rating_meaning or "yes") if m.has_ratings else "no (all 1)"),
        ("timestamps", _times(m)),
        *([("weights", m.weight_meaning)] if m.weight_meaning else []),
        ("size", f"{byte_size(size)} in {count_of(len(m.shards), 'shard')}"),
        ("made of", f"{m.source.get('rows', 0):,} rows from {', '.join(m.source.get('inputs', []))}"),
        ("dropped", _counts(lost) if lost else "nothing"),
        ("quarantine", f"{m.quarantine.rows:,} rows" + (" in quarantine/" if m.quarantine.rows else "")),
    ]
    if gone := forgotten_users(m):
        known.append(("forgotten", f"{gone:,} users"))
    if m.source.get("skipped") and not m.noticed:
        known.append(("skipped files", "; ".join(f"{uri}: {why}" for uri, why in m.source["skipped"])))
    if m.parent:
        known.append(("parent", f"{m.parent.uri} ({m.parent.fingerprint})"))
    known.append(("fingerprint", m.fingerprint))
    show(facts(storage.redact(dataset.uri), known))
    if m.noticed:
        show("", facts("noticed", [(notice.amount, notice.text) for notice in m.noticed]))
    reasons = sorted(m.quarantine.reasons.items(), key=lambda r: -r[1])
    if reasons:
        show(
            "",
            grid(["rows", "quarantined because"], [(f"{n:,}", why) for why, n in reasons[:_REASONS_SHOWN]], words={1}),
        )
    shown = m.shards[:_SHARDS_SHOWN]
    rows = [
        (
            s.data.path,
            f"{s.first_user:,}–{s.first_user + s.n_users - 1:,}",
            f"{s.rows:,}",
            byte_size(s.data.bytes),
        )
        for s in shown
    ]
    if len(m.shards) > len(shown):
        rows.append((f"… {len(m.shards) - len(shown):,} more", "", "", ""))
    show("", grid(["shard", "users", "rows", "size"], rows))


def _positions(m: Manifest) -> str:
    """Returns the source of the row order of a log without timestamps: "file" or "line"; "" if it has timestamps."""
    if m.source.get("time_unit") == "position":
        return "file"
    ways = m.source.get("read_as") or []
    return "line" if ways and all(way["format"] == "sequences" for way in ways) else ""


def _times(m: Manifest) -> str:
    if not m.has_timestamps:
        return "no (all 0)"
    return _POSITIONS.get(_positions(m), "yes (ms since 1970 UTC)")


def _read_as(m: Manifest) -> list[tuple[str, str]]:
    """Returns how the log was read: formats, the roles of the columns, range of times."""
    ways = [ReadAs.model_validate(way) for way in m.source.get("read_as", [])]
    shown = [("read as", "; ".join(f"{way}" + (f" ({way.files:,} files)" if len(ways) > 1 else "") for way in ways))]
    unit = _POSITIONS.get(_positions(m), "") or NAMES.get(m.source.get("time_unit") or "", "")
    if m.source.get("time_format"):
        unit = f"format {m.source['time_format']}"
    units: dict[str, str] = {**m.id_types, "timestamp": unit}
    columns = [
        f"{role} = {name}" + (f" ({units[role]})" if units.get(role) else "")
        for role, name in m.source.get("columns", {}).items()
    ]
    first, last = m.source.get("first_time"), m.source.get("last_time")
    times = []
    if first and last:
        late = " (in the future)" if last > datetime.now(UTC).isoformat() else ""
        times.append(("times", f"{first.replace('T', ' ')[:-1]} to {last.replace('T', ' ')[:-1]} UTC{late}"))
    return [*(shown if ways else []), *([("columns", ", ".join(columns))] if columns else []), *times]


def fetched_json(result: FetchResult) -> dict[str, Any]:
    """Returns the JSON output of `das fetch`."""
    return asdict(result)


def show_fetched(result: FetchResult) -> None:
    """Prints the location of a fetched log, and the command that prepares it."""
    words = ["--input", *result.uris]
    for name, value in result.options.items():
        words += ["--" + name.replace("_", "-"), *_words(value)]
    show(
        facts(
            result.name,
            [
                ("files", ", ".join(result.uris)),
                ("source", result.source + (" (already here)" if result.reused else "")),
                ("checksum", f"{result.sha256} ({'as published' if result.verified else 'none is published'})"),
                ("licence", result.licence),
                ("next", f"das prepare {command(*words)} --output DATASET"),
            ],
        )
    )


def _words(value: Any) -> list[str]:
    """Converts a setting's value to words of the command line."""
    if isinstance(value, list):
        return [str(one) for one in value]
    if isinstance(value, dict):
        return [f"{key}={one}" for key, one in value.items()]
    return [str(value)]


def show_fit(result: FitResult) -> None:
    """Prints a fitted model, and the grid from which its hyper-parameter was selected."""
    known = [("model", result.model), ("folder", storage.redact(result.uri))]
    if result.selection:
        chosen = result.selection
        known.append(("chosen", f"{chosen.parameter} = {chosen.chosen:g} by validation {chosen.metric}"))
    if result.weights:
        known.append(("weights", result.weights))
    known.append(("cost", f"{result.wall_s:.1f} s, {result.cpu_s:.1f} CPU-seconds, {result.peak_mib:.0f} MiB"))
    show(facts("fitted", known))
    if result.selection:
        points = [(f"{point.value:g}", f"{point.metric:.4f}") for point in result.selection.points]
        show("", grid([result.selection.parameter, result.selection.metric], points))
        show(*(f"Beware: {note}" for note in result.notes))
        show(*tied_note(result.tied_in_time))


def show_evaluation(result: Evaluation) -> None:
    """Prints metrics with their standard errors, in percent."""
    users, held_out = count_of(result.n_users, "user"), count_of(result.n_heldout, "held-out row")
    title = f"{result.model.name} on {result.split}: {users}, {held_out}"
    rows = []
    columns = ["metric (percent)", "mean", "standard error"]
    resampled = result.resampled_intervals()
    for name, value in result.metrics.items():
        error = result.standard_errors.get(name)
        # An auc needs a held-out item and another one.
        mean = "–" if isnan(value) else f"{100 * value:.2f}"
        rows.append([name, mean, "" if error is None else f"± {100 * error:.2f}"])
        if result.sampled:
            rows[-1].append(_interval(result.sampled.intervals.get(name)))
        if resampled:
            rows[-1].append(_interval(resampled.get(name)))
    if result.sampled:
        columns.append("of all users, 95 %")
    if resampled:
        columns.append("resampled users, 90 %")
    show(title, grid(columns, rows), *tied_note(result.tied_in_time))
    if result.slices:
        show("By popularity of the held-out items: each slice has a third of the train rows", _slices(result.slices))
    if result.off_policy:
        show(_off_policy(result.off_policy))
    show(*result.notes)
    if result.sampled:
        drawn = f"{result.sampled.drawn:,} of {result.sampled.of:,} users"
        interval = "the 95 % interval is for all users" if result.sampled.intervals else "too few for an interval"
        show(f"Measured on {drawn}, drawn by a hash of their ids; {interval}.")
    if result.tied_hits >= _TIED_HITS_SHOWN:
        share = f"{100 * result.tied_hits:.0f} % of the hits"
        show(f"{share} have the same score as other items; a hash of user and item broke these ties.")


def _interval(of: tuple[float, float] | None) -> str:
    return "" if of is None else f"{100 * of[0]:.2f} to {100 * of[1]:.2f}"


def _slices(slices: dict[str, dict[str, float]]) -> Text:
    """A row a slice: its items and held-out rows, its averages in percent, its share of the recommendations."""
    names = [name for one in slices.values() for name in one if "@" in name]
    metrics = list(dict.fromkeys(names))
    rows = []
    for name, one in slices.items():
        values = [f"{100 * one[metric]:.2f}" if metric in one else "–" for metric in metrics]
        rows.append([name, f"{one['items']:,.0f}", f"{one['heldout']:,.0f}", *values])
    return grid(["slice", "items", "held-out rows", *metrics], rows)


def _off_policy(found: dict[str, float]) -> Text:
    effective = f"{found['effective_rows']:,.0f} of {found['rows']:,.0f} ({found['matched']:,.0f} match)"
    return facts(
        "off-policy, by the logged propensities",
        [
            ("mean reward, IPS", f"{found['ips']:.4f} ± {found['ips_error']:.4f}"),
            ("mean reward, SNIPS", f"{found['snips']:.4f} ± {found['snips_error']:.4f}"),
            ("effective rows", effective),
            ("actions without support", f"{100 * found['unsupported']:.0f} %"),
        ],
    )


def _changes(result: Comparison) -> list[Text | str]:
    """Tables of what the small datasets keep by popularity, and of how much of a user's list changes."""
    found: list[Text | str] = []
    models = list(result.full)
    kept, changed = [], []
    for small in result.small:
        name = small.method if small.budget is None else f"{small.method} {small.budget:g}"
        for part in SLICES:
            values = [small.kept_by_slice.get(model, {}).get(part) for model in models]
            if any(value is not None for value in values):
                kept.append([name, part, *("–" if value is None else f"{100 * value:.1f} %" for value in values)])
        for what, of in (("full data", small.changed), ("another seed", small.changed_by_seed)):
            if of:
                changed.append([name, what, *(f"{100 * of[m]:.0f} %" if m in of else "–" for m in models)])
    if kept:
        found += [
            f"{PRIMARY} kept by popularity of the held-out items",
            grid(["fitted on", "items", *models], kept, (0, 1)),
        ]
    if changed:
        found += [
            "share of a user's 10 best items that changes",
            grid(["fitted on", "against", *models], changed, (0, 1)),
        ]
    return found


def show_comparison(result: Comparison) -> None:
    """Prints one row per small dataset: Kendall's τ and the share of the first metric that each model keeps."""
    metric, models = result.metrics[0], list(result.full)
    rows = [["full data", "100.00", "", *(f"{100 * t.metrics[metric]:.2f}" for t in result.full.values())]]
    for small in result.small:
        tau = small.retention.tau
        name = f"{small.method} {small.budget:g}" if small.budget is not None else small.method
        seed = "" if small.seed is None else f", seed {small.seed}"
        kept = [f"{100 * small.retention.kept[model][metric]:.1f} %" for model in models]
        rows.append([name + seed, f"{100 * small.share:.2f}", "—" if tau is None else f"{tau:.3f}", *kept])
    show(
        f"τ: Kendall's τ-b of the models' rankings, averaged over {', '.join(result.metrics)}; model columns: {metric} "
        "in percent (first row), and its share kept",
        grid(["fitted on", "rows %", "τ", *models], rows),
        *_changes(result),
        "Each value comes from one fit on one sample; the variation over users and seeds is not shown. "
        "das sweep --seeds 3 measures it.",
        *(f"Beware: {note}" for note in result.notes),
        *tied_note(result.data.tied_in_time),
    )


def show_samples(result: Samples) -> None:
    """Prints one row per budget, and the cost."""
    rows = [
        (f"{s.budget:g}", f"{s.share:.4g}", f"{s.rows:,}", f"{s.users:,}", f"{s.items:,}", storage.redact(s.uri))
        for s in result.samples
    ]
    show(
        f"{result.sampler} on {result.data.train_rows:,} train rows of {result.data.uri}",
        grid(["budget", "kept", "train rows", "users", "items", "sample"], rows, words={5}),
        "",
        f"Done in {result.wall_s:.1f} s, {result.cpu_s:.1f} CPU-seconds. Users and items are those with train rows.",
    )


def show_distilled(result: DistillResult) -> None:
    """Prints the size of the synthetic data, the selected settings, the cost, and the validation curve."""
    size = f"{byte_size(result.bytes)}, {100 * result.bytes / result.real_bytes:.3g} % of the dataset's shards"
    cost = f"{result.wall_s:.1f} s, {result.cpu_s:.1f} CPU-seconds, {result.peak_mib:.0f} MiB"
    made = result.sequences
    if made is None:
        what = [("users", f"{result.users:,} instead of {result.real_users:,}")]
        chosen = [(f"λ for {model}", f"{values['lam']:g}") for model, values in result.settings.items()]
        model, columns = "infinite_ae", ["step", result.metric, "λ"]
    else:
        of = f"{result.users:,} of {made.length} items instead of {result.real_users:,} users"
        what = [("sequences", of), ("student", made.student)]
        values = f"{made.start:.4f} at the start, {made.exact:.4f} learned, {made.stored:.4f} as stored"
        chosen = [(f"validation {made.metric}", values)]
        model, columns = made.student, ["step", result.metric]
    lines = [
        ("method", f"{result.method}, {result.family} {result.kind}"),
        *what,
        ("folder", storage.redact(result.uri)),
        ("size", size),
        *chosen,
        *([("contenders", _contenders(result))] if result.contenders else []),
        *([("privacy", result.privacy.sentence)] if result.privacy else []),
        ("cost", cost),
        ("next", f"das fit --data {command(storage.redact(result.uri))} --model {model} --output MODEL"),
    ]
    show(facts("distilled", lines))
    if result.curve:
        points = [
            (f"{int(p['step'])}", f"{p['metric']:.4f}", *([f"{p['lam']:.3g}"] if "lam" in p else []))
            for p in result.curve
        ]
        show("", grid(columns, points))
    show(*(f"Beware: {note}" for note in result.notes))


def _contenders(result: DistillResult) -> str:
    """What the result was compared with, by the mean of the models' validation metrics, the best first."""
    means = {name: sum(metrics.values()) / len(metrics) for name, metrics in result.contenders.items()}
    means.pop("start", None)
    listed = ", ".join(f"{name} {mean:.4f}" for name, mean in sorted(means.items(), key=lambda one: -one[1]))
    return f"validation {result.metric}: {listed}; kept: {result.winner}"


def checks_json(checks: list[Check]) -> dict[str, Any]:
    """Returns the JSON output of `das doctor`."""
    return {
        "ok": all(check.ok is not False for check in checks),
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail, "mend": check.fix} for check in checks],
    }


def show_checks(checks: list[Check]) -> None:
    """Prints one line per check; failed ones are followed by the fix."""
    show(*_checks(checks))
    wrong = sum(check.ok is False for check in checks)
    show("", f"{wrong} of {len(checks)} checks failed." if wrong else "All checks passed.")


def _checks(checks: list[Check]) -> Iterator[Text]:
    marks = {True: ("ok   ", "green"), False: ("wrong", "red"), None: ("—    ", "dim")}
    width = max(len(check.name) for check in checks)
    for check in checks:
        yield Text.assemble(marks[check.ok], f"  {check.name:<{width}}  {check.detail}")
        if check.fix:
            yield Text.assemble(" " * (width + 9), (check.fix, "yellow"))
