"""Tables of the files that predict, export, expand and attribute write for other programs, and how to read them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pydantic import BaseModel

from distill_at_scale.data import storage
from distill_at_scale.facts import byte_size, count_of
from distill_at_scale.report.layout import facts, show
from distill_at_scale.uris import redact_text

if TYPE_CHECKING:
    from distill_at_scale.pipelines.attribute import AttributeResult
    from distill_at_scale.pipelines.expand import Expansion
    from distill_at_scale.pipelines.export import ExportResult
    from distill_at_scale.pipelines.forget import ForgetResult
    from distill_at_scale.pipelines.predict import Predictions
    from distill_at_scale.pipelines.submit import Job


def show_predictions(result: Predictions) -> None:
    """Prints the location and the number of recommendation lists."""
    uri = storage.redact(result.uri)
    told = [("folder", uri), ("model", result.model.name)]
    if result.users:
        told.append(("lists", f"{result.users:,} users, {result.rows:,} rows, at most {result.k:,} items each"))
        told.append(("history", f"{result.history} rows"))
    if result.similar_rows is not None:
        told.append(("similar items", f"{result.similar_rows:,} rows"))
    if result.missing:
        who = "user who is" if result.missing == 1 else "users who are"
        told.append(("left out", f"{result.missing:,} {who} not in the dataset"))
    told += [
        ("size", byte_size(result.bytes)),
        ("cost", f"{result.wall_s:.1f} s, {result.cpu_s:.1f} CPU-seconds, {result.peak_mib:.0f} MiB"),
    ]
    read = "predictions" if result.users else "similar_items"
    told.append(("read them", f'polars.read_parquet("{uri}/{read}")'))
    show(facts("predicted", told))


def show_export(result: ExportResult) -> None:
    """Prints the location and size of an exported log."""
    rows = f"{result.rows:,} of {result.users:,} users on {result.items:,} items"
    place = "file" if result.files == 1 and not result.splits else "folder"
    told = [(place, storage.redact(result.uri)), ("format", result.format), ("rows", rows)]
    if result.splits:
        told.append(("splits", ", ".join(f"{split} {n:,}" for split, n in result.splits.items())))
    told.append(("size", f"{byte_size(result.bytes)} in {count_of(result.files, 'file')}"))
    if result.escaped:
        told.append(("escaped", f"{result.escaped:,} ids that begin like spreadsheet formulas"))
    if result.format == "hf":
        told.append(("before publishing", "add the log's licence to README.md, and read its note on privacy"))
    show(facts("exported", told))


def show_expansion(result: Expansion) -> None:
    """Prints the location and size of the expanded log, and the command that prepares it."""
    log = storage.redact(result.log)
    told = [
        ("log", log),
        ("rows", f"{result.rows:,} of {result.users:,} users on up to {result.items:,} items"),
        ("expanded by", f"{result.by}; a block keeps {result.mean_rate:.2f} of the rows on average"),
        ("size", f"{byte_size(result.bytes)} in {count_of(result.files, 'file')}"),
        ("cost", f"{result.wall_s:.1f} s, {result.cpu_s:.1f} CPU-seconds, {result.peak_mib:.0f} MiB"),
        ("prepare it", f"das prepare --input {shlex.quote(log)} --output DATA"),
    ]
    show(facts("expanded", told))


def show_attributed(result: AttributeResult) -> None:
    """Prints the location of the rows' values, what they are of, and how to keep the best rows, or why not to."""
    uri = storage.redact(result.uri)
    told = [("file", uri), ("model", result.model)]
    if result.lam is not None:
        told.append(("λ", f"{result.lam:g}"))
    if result.steps is not None:
        told.append(("steps", f"{result.steps:,} of the training"))
    if others := {name: value for name, value in result.settings.items() if name != "lam"}:
        told.append(("settings", ", ".join(f"{name}={value}" for name, value in others.items())))
    harmful = f"{result.harmful:,} of them below 0: the loss would fall if they counted less"
    told += [("rows", f"{result.rows:,}; {harmful}"), ("validation loss", f"{result.loss:.4g}")]
    if result.attributed_users is not None:
        users = f"{result.attributed_users:,} users were attributed, the values of all rows are a rater's scores"
        told.append(("learned from", f"{users} (rank correlation {result.rank_correlation:.2f} on users left out)"))
    cost = f"{result.wall_s:.1f} s, {result.cpu_s:.1f} CPU-seconds, {result.peak_mib:.0f} MiB"
    told.append(("cost", cost))
    told += [("beware", note) for note in result.notes]
    if not result.notes:
        scores = f"--sampler column=value --scores {shlex.quote(uri)}"
        told.append(("keep the best", f"das sample --data DATA {scores} --budget 0.5 --output SAMPLES"))
    show(facts("attributed", told))


def show_forgotten(result: ForgetResult) -> None:
    """Prints what depended on the users, where the result without them is, and what else depends on them."""
    what = "sequence" if result.kind == "sequences" else "row"
    strange = "id of the file is" if result.missing == 1 else "ids of the file are"
    users = f"{result.users:,}" + (f"; {result.missing:,} {strange} of no user" if result.missing else "")
    told = [("users", users), ("train rows", f"{result.rows:,}, {100 * result.share:.3g} % of all")]
    if result.explained is not None:
        told.append(("explained", f"{100 * result.explained:.3g} % of a {what} on average"))
        told.append(("most", ", ".join(f"{what} {one.row} {100 * one.share:.3g} %" for one in result.most)))
    if result.uri is None:
        told.append(("folder", "nothing was written (--dry-run)"))
    else:
        told.append(("folder", storage.redact(result.uri)))
    if result.remaining is not None:
        told.append(("log without them", storage.redact(result.remaining)))
    told.append(("cost", f"{result.wall_s:.1f} s"))
    show(facts("forgotten", told), *result.notes)


def show_job(result: Job) -> None:
    """Prints the id of a job that was not waited for; of the others the log has been printed."""
    if result.exit_code is None:
        print(result.job)


def show_result(result: BaseModel) -> None:
    """Prints any result, one line per field."""
    show(facts("done", [(name, redact_text(str(value))) for name, value in result]))
