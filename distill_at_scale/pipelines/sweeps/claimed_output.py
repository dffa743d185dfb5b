"""The folder that a sweep, forecast or search writes to, and the file in it that describes the run.

The folder is empty, or holds an earlier run on the same dataset, which then goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import DatasetRef
from distill_at_scale.errors import DamagedFileError, OutputExistsError
from distill_at_scale.pipelines.runtime import output_folder, run_record


def claim(output: str, name: str, fix: str, what: str, dataset: Dataset, ours: Sequence[str], overwrite: bool) -> None:
    """Checks that a folder may be written to, and clears it if it is to be replaced.

    Args:
        output: Folder, normalised.
        name: Its file that describes the run, with the dataset's fingerprint.
        fix: Remedy for damage of this file, as the end of a sentence.
        what: What the folder holds, such as "a search".
        dataset: Dataset of the run.
        ours: Files and folders that such a run writes.
        overwrite: Whether to remove them first.

    Raises:
        OutputExistsError: The folder holds other files, or a run on another dataset.
        SettingError: The folder and the dataset lie in one another.
    """
    output_folder.check_apart(output, dataset.uri)
    where, file = storage.redact(output), storage.join(output, name)
    storage.check_writable(file)
    try:
        content = recorded.read_json(file, fix)
        with recorded.parsing(file, fix):
            found = DatasetRef.model_validate(content["data"])
    except FileNotFoundError:
        other = next(iter(storage.list_files(output)), None)
        if other is not None:
            raise OutputExistsError(
                f"{where} holds other files ({storage.redact(other.uri)}); choose an empty --output."
            ) from None
        return
    except DamagedFileError:
        # The trials' records tell their datasets, and are checked as they are read.
        found = DatasetRef.of(dataset)
    if overwrite:
        for part in (*ours, name):
            storage.remove(storage.join(output, part))
    elif found.fingerprint != dataset.manifest.fingerprint:
        raise OutputExistsError(
            f"{where} holds {what} of another dataset ({found.uri}); choose another --output, or replace it "
            "with --overwrite."
        )


def describe(
    file: str, dataset: DatasetRef, config: BaseModel, more: Mapping[str, Any], without: Collection[str] = ()
) -> None:
    """Writes the description of a run.

    Args:
        file: Where to.
        dataset: Dataset of the run.
        config: Settings of the run.
        more: Further content.
        without: Settings to leave out, besides those that decide nothing.
    """
    content = {
        "data": dataset.model_dump(mode="json"),
        "config": config.model_dump(mode="json", exclude={"address", "overwrite", *without}),
        "versions": run_record.versions(),
        **more,
    }
    recorded.write_json(file, content)
