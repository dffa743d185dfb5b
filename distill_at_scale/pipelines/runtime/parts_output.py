"""An output folder of many files that a restartable run writes part by part: claimed by a plan, ended by a manifest.

    <uri>/_work/plan.json             what the unfinished run was asked for
          _work/parts/part-00042.json the record of a part that is done
          …                           the parts' files, under fixed names
          run.json                    how the run went
          <name>.json                 the manifest, written last: a folder without it is not finished

The same command, run again after a kill, keeps the parts that are done; another command starts again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.manifest import WORK
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import OutputExistsError
from distill_at_scale.pipelines.runtime import output_folder, run_record

R = TypeVar("R", bound=PartRecord)
_RECORDS = "parts"


class PartsResult(BaseModel):
    """What a verb says of the output that it wrote part by part."""

    uri: str
    """Folder of the output."""
    bytes: int
    reused_parts: int
    """Number of parts reused from an earlier, unfinished run."""
    wall_s: float
    cpu_s: float
    peak_mib: float
    """Peak memory of the largest worker."""


@dataclass(frozen=True)
class PartsOutput:
    """Where a run writes, and what it writes there.

    Attributes:
        uri: the folder, normalised.
        manifest: name of its manifest.
        what: what the folder holds, as "predictions".
        owned: pattern of the paths that such a run writes besides the manifest, ``run.json`` and ``_work/``; no other
            file is ever removed.
    """

    uri: str
    manifest: str
    what: str
    owned: str

    def place(self, path: str) -> str:
        """URI of a file in the folder."""
        return storage.join(self.uri, path)

    @property
    def _plan(self) -> str:
        return self.place(f"{WORK}/{output_folder.PLAN}")

    def check(self, overwrite: bool) -> None:
        """Refuses a folder that cannot be written, is finished (unless told to replace it) or holds other files.

        Raises:
            StorageError, OutputExistsError: saying which.
        """
        storage.check_writable(self._plan)
        finished, begun = storage.exists(self.place(self.manifest)), storage.exists(self._plan)
        if finished and not begun and not overwrite:
            raise output_folder.holds_already(self.uri, self.what)
        for path in self._paths():
            # Where no such run has been, even a file that is named like one of ours is somebody else's.
            if not (self._is_ours(path) and (finished or begun or path.startswith(f"{WORK}/.{output_folder.PLAN}."))):
                place = storage.redact(self.uri)
                raise OutputExistsError(
                    f"{place} holds other files ({storage.join(place, path)}); choose an empty --output."
                )

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Takes up an unfinished run of the same plan, or clears the folder for a new one.

        Args:
            plan: all that the parts' content depends on, as JSON.
        """
        content = {**plan, "versions": run_record.made_with()}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        if output_folder.planned(self._plan) == digest:
            return
        # A plan without a digest marks the place as ours while what an earlier run left is removed.
        recorded.write_json(self._plan, {"digest": None})
        storage.remove(self.place(self.manifest))
        storage.remove(self.place(f"{WORK}/{_RECORDS}"))
        for path in self._paths():
            if not path.startswith(f"{WORK}/"):
                storage.remove(self.place(path))
        recorded.write_json(self._plan, {"digest": digest, **content})

    def once(self, part: int, kind: type[R], build: Callable[[], R]) -> R:
        """The record of a part, built unless it is done already; see :func:`restartable.once`."""
        return restartable.once(restartable.part(self.place(f"{WORK}/{_RECORDS}"), part, ".json"), kind, build)

    def write(self, path: str, content: bytes | pa.Buffer) -> FileRecord:
        """Writes a file whole."""
        storage.write_bytes(self.place(path), content)
        return recorded.record_of(path, content)

    def finish(self, run: run_record.RunRecord, manifest: Mapping[str, Any], keep: Iterable[str]) -> None:
        """Ends the run: ``run.json``, the manifest, and nothing else but the files of the parts.

        Args:
            run: how it went.
            manifest: content of the manifest.
            keep: paths of the parts' files.
        """
        run.write(self.uri)
        known = {*keep, run_record.NAME}
        for path in self._paths():
            # Drafts that killed writers left.
            if path not in known and not path.startswith(f"{WORK}/"):
                storage.remove(self.place(path))
        recorded.write_json(self.place(self.manifest), manifest)
        storage.remove(self.place(f"{WORK}/{_RECORDS}"))
        storage.remove(self.place(WORK))

    def _paths(self) -> list[str]:
        return [file.uri[len(self.uri) + 1 :] for file in storage.list_files(self.uri)]

    def _is_ours(self, path: str) -> bool:
        path = storage.drafted(path) or path
        return (
            path in (self.manifest, run_record.NAME)
            or path.startswith(f"{WORK}/")
            or re.fullmatch(self.owned, path) is not None
        )


def parquet_bytes(frame: pl.DataFrame) -> pa.Buffer:
    """A frame as the content of a Parquet file that every reader knows; equal frames give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(restartable.to_table(frame), sink, compression="zstd", compression_level=1)
    return sink.getvalue()
