"""Prepares rows in memory: a frame, or a dataset of Ray Data, with the same result as a file of these rows.

    frame, or blocks of Ray Data on the workers ─► Parquet parts beside the output ─► prepare ─► parts removed

Users call them as ``Dataset.from_frame`` and ``Dataset.from_ray``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_at_scale import logs
from distill_at_scale.config import PrepareConfig
from distill_at_scale.data import frames, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.temporary import temporary_folder
from distill_at_scale.errors import SettingError
from distill_at_scale.pipelines.prepare import prepare_parts
from distill_at_scale.pipelines.runtime import memory, session
from distill_at_scale.pipelines.runtime.launch import launch
from distill_at_scale.registry import SPLIT_RULES
from distill_at_scale.settings import settle


def from_frame(frame: Any, names: Mapping[str, str | None], **settings: Any) -> Dataset:
    """Prepares a frame; see :meth:`Dataset.from_frame`.

    Args:
        frame: A pandas, Polars or Arrow table.
        names: user, item, rating, time -> column.
        settings: Settings of `prepare`; ``output`` may be None.

    Raises:
        SettingError: ``frame`` is not a table, a column is missing, or a setting is wrong.
        DasError: As for `prepare`.
    """
    table = frames.to_polars(frame)

    def write(columns: list[str], folder: str) -> list[str]:
        return memory.write_frame(table.select(columns), folder)

    return _prepared(table.columns, names, settings, "a frame in memory", write)


def from_ray(rows: Any, names: Mapping[str, str | None], **settings: Any) -> Dataset:
    """Prepares a dataset of Ray Data; see :meth:`Dataset.from_ray`.

    Raises:
        SettingError: It is not a dataset of Ray Data, a column is missing, or a setting is wrong.
        DasError: As for `prepare`.
    """
    if not hasattr(rows, "map_batches") or not hasattr(rows, "schema"):
        raise SettingError(f"A {type(rows).__name__} is not a ray.data.Dataset; Dataset.from_frame takes frames.")
    if settings.get("order") == "file":
        raise SettingError("order='file' needs rows in an order, which those of Ray Data have not; give a time column.")
    with session.ensure(settings.get("address")):
        session.require_driver("Dataset.from_ray")
        schema = rows.schema()
        if schema is None:
            raise SettingError("The ray.data.Dataset has no rows.")

        def write(columns: list[str], folder: str) -> list[str]:
            return memory.write_rows(rows, columns, folder)

        return _prepared(schema.names, names, settings, "a dataset of Ray Data", write)


def _prepared(
    available: Sequence[str],
    names: Mapping[str, str | None],
    settings: Mapping[str, Any],
    origin: str,
    write: Callable[[list[str], str], list[str]],
) -> Dataset:
    """Writes the columns that are needed as parts, prepares them and removes them.

    Args:
        available: columns of what is in memory.
        write: (columns, folder) → the parts.
    """
    columns = {canonical: names.get(keyword) for canonical, keyword in frames.KEYWORDS.items()}
    mapping: dict[str, str] = {**(settings.get("map") or {}), **{key: name for key, name in columns.items() if name}}
    # An empty name means that the column is not read.
    ignored = {key: name for key, name in mapping.items() if not name}
    split = settings.get("split")
    in_log = isinstance(split, str) and split in SPLIT_RULES and SPLIT_RULES[split].in_log
    found = frames.find_columns(available, {**columns, **mapping}, in_log)
    mapping = {**{key: name for key, name in found.items() if key not in ignored}, **ignored}
    output = settings.get("output")
    output = temporary_folder("dataset") if output is None else storage.normalise(os.fspath(output))
    # Beside the output, on storage that all workers reach.
    folder = f"{output}.incoming-{uuid.uuid4().hex[:12]}"
    # Settings are validated before anything is written.
    config = settle(PrepareConfig, None, {**settings, "output": output, "map": mapping, "input": [folder]})
    wanted = {*mapping.values(), *config.where, config.weight, config.event_column}
    every = bool(config.event) and config.event_column is None
    with logs.shown_by_default():
        try:
            parts = write([name for name in available if every or name in wanted], folder)
            return launch(prepare_parts, config.model_copy(update={"input": parts}), origin=origin)
        finally:
            storage.remove(folder)
