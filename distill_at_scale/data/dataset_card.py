"""What describes a dataset to the Hugging Face Hub and to search engines: README.md and Croissant metadata.

Source: Croissant 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html; the dataset card of
https://huggingface.co/docs/hub/datasets-cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.facts import count_of

CARD, CROISSANT = "README.md", "croissant.json"
_MEANINGS: Final = {
    Columns.USER_ID: "Id of the user, as in the log.",
    Columns.ITEM_ID: "Id of the item, as in the log.",
    Columns.RATING: "Rating, or weight, of the interaction.",
    Columns.WEIGHT: "Weight of the interaction: the inverse of the probability with which a sampler kept it.",
    Columns.TIMESTAMP: "Time of the interaction in milliseconds since 1970 UTC (without times in the log: its place).",
}
_REAL_USERS: Final = (
    "The user ids are those of the log. Ids, histories and times can identify people: publish the folder only if the "
    "log's licence and its users' consent allow it."
)
_MADE_USERS: Final = (
    "The users are synthetic, but they were learned from real users without differential privacy: nothing bounds what "
    "they reveal of them."
)
_CONTEXT: Final[dict[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


@dataclass(frozen=True)
class Described:
    """What is said of an exported log.

    Attributes:
        name: Name of the dataset.
        splits: rows of each split.
        users, items: counts.
        columns: name → ``int64``, ``string`` or ``float32``.
        made: how it was made, as sentences.
        synthetic: whether its users are.
        guarantee: what differential privacy guarantees their sources, as sentences; "" for nothing.
    """

    name: str
    splits: dict[str, int]
    users: int
    items: int
    columns: dict[str, str]
    made: Sequence[str]
    synthetic: bool
    guarantee: str = ""

    @property
    def summary(self) -> str:
        """One sentence."""
        rows = sum(self.splits.values())
        users, items = count_of(self.users, "user"), count_of(self.items, "item")
        return f"Interactions of {users} with {items} in {count_of(rows, 'row')}."


def card(about: Described) -> str:
    """README.md: a YAML header that the Hub reads, then what people want to know."""
    header = {
        "license": "other",
        "license_name": "unknown",
        "pretty_name": about.name,
        "task_categories": ["other"],
        "tags": ["recommendation", "collaborative-filtering"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in about.splits],
            }
        ],
    }
    rows = "\n".join(f"| {split} | {n:,} |" for split, n in about.splits.items())
    columns = "\n".join(f"| `{name}` | {kind} | {_MEANINGS[name]} |" for name, kind in about.columns.items())
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---

# {about.name}

{about.summary}

| split | rows |
|---|---|
{rows}

| column | type | meaning |
|---|---|---|
{columns}

## How it was made

{" ".join(about.made)}

## Licence

Unknown: put the licence of the log here and into the header before you publish this folder.

## Privacy

{about.guarantee or (_MADE_USERS if about.synthetic else _REAL_USERS)}
"""


def croissant(about: Described, files: Sequence[FileRecord]) -> dict[str, Any]:
    """Croissant metadata (JSON-LD) of the exported files: their checksums, and the fields of each split."""
    types = {"int64": "sc:Integer", "string": "sc:Text", "float32": "sc:Float"}
    distribution: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": file.path,
            "name": file.path,
            "contentUrl": file.path,
            "contentSize": f"{file.bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file.sha256,
        }
        for file in files
    ]
    distribution += [
        {
            "@type": "cr:FileSet",
            "@id": f"files-of-{split}",
            "name": f"files-of-{split}",
            "encodingFormat": "application/x-parquet",
            "includes": f"data/{split}-*.parquet",
        }
        for split in about.splits
    ]
    records = [
        {
            "@type": "cr:RecordSet",
            "@id": split,
            "name": split,
            "description": f"The split {split}, of {count_of(n, 'row')}.",
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": f"{split}/{name}",
                    "name": name,
                    "description": _MEANINGS[name],
                    "dataType": types[kind],
                    "source": {"fileSet": {"@id": f"files-of-{split}"}, "extract": {"column": name}},
                }
                for name, kind in about.columns.items()
            ],
        }
        for split, n in about.splits.items()
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": about.name,
        "description": f"{about.summary} {' '.join(about.made)}",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": "unknown",
        "version": "1.0.0",
        "distribution": distribution,
        "recordSet": records,
    }
