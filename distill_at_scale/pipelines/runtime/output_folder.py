"""The place that a run writes a dataset or a file to: whose it is, what in it is ours, and how it is cleared.

A place is ours once the plan of an unfinished run or a manifest is in it; any other must be empty, and no file
but those that such a run itself names is ever removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from distill_at_scale.data import log_record, recorded, shard_records, storage
from distill_at_scale.data.manifest import NAME as MANIFEST
from distill_at_scale.data.manifest import WORK, Manifest
from distill_at_scale.data.preparation import buckets, dealt, fragments, kcore, rest, shards
from distill_at_scale.errors import OutputExistsError, SettingError
from distill_at_scale.pipelines.runtime import run_record

PLAN = "plan.json"
_STAGES = (fragments.FOLDER, dealt.MERGED, "items", buckets.FOLDER, kcore.FOLDER, shards.FOLDER)
_PARTS = (shards.FOLDER, shards.USERS, fragments.QUARANTINE, rest.FOLDER)
_FILES = (MANIFEST, "items.parquet", shard_records.NAME, run_record.NAME, log_record.NAME)
# Exactly what a prepare writes: nothing else is ever taken for its own and removed.
_OURS = re.compile(rf"{WORK}/.+|(?:{'|'.join(_PARTS)})/part-\d{{5,}}\.parquet|(?:{'|'.join(map(re.escape, _FILES))})")


def check(output: str, overwrite: bool) -> None:
    """Refuses a place that holds a dataset (unless told) or anything that is not ours."""
    finished = storage.exists(storage.join(output, MANIFEST))
    begun = storage.exists(storage.join(output, WORK, PLAN))
    if finished and not overwrite and not begun:
        raise holds_dataset(output)
    for path in _paths(output):
        # Where no prepare has been, even a file that is named like one of ours is somebody else's.
        if not (_is_ours(path) and (finished or begun or path.startswith(f"{WORK}/.{PLAN}."))):
            place = storage.redact(output)
            raise OutputExistsError(
                f"{place} holds other files ({storage.join(place, path)}); choose an empty --output."
            )


def check_apart(output: str, data: str) -> None:
    """Refuses an output that contains the dataset it is made from, or lies in it.

    Args:
        output, data: URIs, normalised.

    Raises:
        SettingError: One of them lies in the other.
    """
    if f"{output}/".startswith(f"{data}/") or f"{data}/".startswith(f"{output}/"):
        where = storage.redact(output)
        raise SettingError(
            f"{where} and the dataset {storage.redact(data)} lie in one another; choose another --output."
        )


def check_outside(output: str, data: str, what: str) -> None:
    """Refuses an output inside the folder that a verb reads.

    Args:
        output, data: Addresses of both, normalised.
        what: what is read, as "the dataset sampled from".

    Raises:
        SettingError: saying so.
    """
    if f"{output}/".startswith(f"{data}/"):
        raise SettingError(f"{storage.redact(output)} lies in {what}; choose another --output.")


def holds_dataset(output: str) -> OutputExistsError:
    return holds_already(output, "a dataset")


def holds_already(output: str, what: str) -> OutputExistsError:
    """The error for an output that holds, say, ``a model``, where it must not be replaced without being told to."""
    place = storage.redact(output)
    return OutputExistsError(f"{place} holds {what} already; choose another --output, or replace it with --overwrite.")


def refuse_others_file(output: str, ours: re.Pattern[bytes], what: str) -> None:
    """Refuses to replace a file of another kind, such as one of a dataset.

    Args:
        output: Address of the file to write, normalised.
        ours: Pattern of how such files begin.
        what: what they are, as "an HTML page".

    Raises:
        OutputExistsError: naming the file.
    """
    try:
        with storage.open_input(output, scattered=True) as file:
            content = bytes(file.read(1024))
    except FileNotFoundError:
        return
    if content and not ours.match(content):
        raise OutputExistsError(f"{storage.redact(output)} is not {what}; choose another --output.")


def planned(plan_uri: str) -> str | None:
    """Returns the digest of an unfinished run's plan; None without a plan.

    Raises:
        StorageError: the plan cannot be read. What is there may be another's, so nothing is cleared.
    """
    try:
        return recorded.read_json(plan_uri, "remove it to start again").get("digest")
    except FileNotFoundError:
        return None


def _paths(output: str) -> list[str]:
    return [file.uri[len(output) + 1 :] for file in storage.list_files(output)]


def _is_ours(path: str) -> bool:
    """Whether a prepare writes the file ``path`` of its output, or it is a draft that a killed writer left."""
    return _OURS.fullmatch(storage.drafted(path) or path) is not None


def clear(output: str) -> None:
    """Removes a dataset or what an unfinished run left, all but the plan; the manifest first, so that no half is
    taken for one."""
    drafts = [path for path in _paths(output) if "/" not in path and storage.drafted(path) and _is_ours(path)]
    for name in (*_FILES, *_PARTS, *drafts):
        storage.remove(storage.join(output, name))
    _remove_stages(output)


def remove_work(output: str) -> None:
    """Removes what the stages left for each other. The plan goes last: while it is there, a run that was killed
    while it tidied up is known again."""
    _remove_stages(output)
    storage.remove(storage.join(output, WORK))


def _remove_stages(output: str) -> None:
    for name in _STAGES:
        storage.remove(storage.join(output, WORK, name))


def remove_strays(output: str, manifest: Manifest, others: Iterable[str] = ()) -> None:
    """Removes drafts of killed writers, which neither the manifest nor ``others`` name."""
    named = {file.path for file in manifest.files()}
    named |= {run_record.NAME, *manifest.quarantine.files, *others}
    for path in _paths(output):
        if _is_ours(path) and path not in named and not path.startswith(WORK + "/"):
            storage.remove(storage.join(output, path))
