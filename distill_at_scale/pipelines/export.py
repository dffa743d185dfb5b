"""export: synthetic users or sequences as a plain log of interactions, for trainers that know nothing of this
project."""

from __future__ import annotations

import io

import polars as pl
from pydantic import BaseModel

from distill_at_scale.config import ExportConfig
from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.distillation.discretise import as_log
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.runtime.verb import verb

_RECBOLE = {Columns.USER_ID: "token", Columns.ITEM_ID: "token", Columns.TIMESTAMP: "float"}


_FORMULA = r"^[=+\-@\t\r\n]"
_SPLITS = r"[\t\r\n]"


class ExportResult(BaseModel):
    """A log and how large it is."""

    uri: str
    """of the file"""
    rows: int
    users: int
    items: int
    escaped: int = 0
    """items whose id was changed, as --escape-formulas asks for"""
    bytes: int


@verb(ExportConfig, "data")
def export(config: ExportConfig) -> ExportResult:
    """Draws plain users and writes them; see :class:`~distill_at_scale.config.ExportConfig` for the settings.

    Items have the ids of the log that was distilled, users are numbered from 0, and so are the times of sequences;
    ``das prepare`` reads the file too.

    Raises:
        DasError: no synthetic dataset, a file of it that is missing or altered; ids that the format cannot hold.
    """
    name = "interactions.parquet" if config.format == "parquet" else "interactions.inter"
    uri = storage.join(storage.normalise(config.output), name)
    storage.check_writable(uri)
    dataset = SyntheticDataset.open(config.data)
    users = dataset.draw(config.how, config.seed)
    items = dataset.items()
    drawn = users.item_counts() > 0
    escaped = 0
    if config.escape_formulas:
        before = items[Columns.ITEM_ID]
        items = items.with_columns(without_formulas(before).alias(Columns.ITEM_ID))
        escaped = int((items[Columns.ITEM_ID] != before).filter(pl.Series(drawn)).sum())
    if config.format == "recbole":
        _require_one_line(items[Columns.ITEM_ID].filter(pl.Series(drawn)))
    log, buffer = as_log(users, items), io.BytesIO()
    if config.format == "parquet":
        log.write_parquet(buffer)
    else:
        typed = log.rename({key: f"{key}:{_RECBOLE[key]}" for key in log.columns})
        typed.write_csv(buffer, separator="\t", quote_style="never")
    storage.write_bytes(uri, buffer.getvalue())
    return ExportResult(
        uri=uri,
        rows=users.n_rows,
        users=len(users),
        items=int(drawn.sum()),
        escaped=escaped,
        bytes=buffer.tell(),
    )


def without_formulas(ids: pl.Series) -> pl.Series:
    """Text ids with a ' before those that begin as formulas do, tabs and line ends in them as blanks; numbers as they
    are.

    Raises:
        DasError: two ids that become one.
    """
    if ids.dtype != pl.String:
        return ids
    quoted = pl.when(ids.str.contains(_FORMULA)).then("'" + ids).otherwise(ids)
    found = pl.select(quoted.alias(ids.name)).to_series().str.replace_all(_SPLITS, " ")
    if found.n_unique() < ids.n_unique():
        both = pl.DataFrame({"id": ids, "as": found}).filter(pl.col("as").is_duplicated()).sort("as", "id")["id"]
        raise DasError(
            f"--escape-formulas writes the ids {both[0]!r} and {both[1]!r} alike; export without it, or rename one of "
            "them in the log."
        )
    return found


def _require_one_line(ids: pl.Series) -> None:
    """Fields of .inter files are not quoted."""
    if ids.dtype == pl.String and len(split := ids.filter(ids.str.contains(_SPLITS))):
        raise DasError(
            f"the item id {split[0]!r} has a tab or line end, which a .inter file cannot hold; export --format "
            "parquet, or with --escape-formulas, which makes them blanks."
        )
