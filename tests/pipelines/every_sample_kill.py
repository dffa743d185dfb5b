"""As every_kill, of a sample: prints where it died and which of the samples are datasets by then."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import every_kill
import pytest

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines import sample as verb
from distill_at_scale.pipelines.sampling import item_counts, shard_scores


def inline_sample(**settings: Any) -> verb.Samples:
    """sample's own driver over its own parts, with a plain loop in the place where Ray schedules."""

    def run_stage(run: Any, name: str, work: Any, items: Any, shared: Any = (), **_: Any) -> Any:
        return [work(item, *shared) for item in items]

    with pytest.MonkeyPatch.context() as patch:
        for module in (verb, item_counts, shard_scores):
            patch.setattr(module, "run_stage", run_stage)
        patch.setattr(verb.session, "ensure", lambda address: contextlib.nullcontext())
        return verb.sample(**settings)


def is_dataset(uri: str) -> bool:
    try:
        Dataset.open(uri)
    except DasError:
        return False
    return True


def main() -> None:
    settings, uris = json.loads(sys.argv[1])
    every_kill.inline_prepare = inline_sample  # type: ignore[assignment]
    every_kill.import_all(settings)
    died_at: set[tuple[str, str]] = set()
    while (death := every_kill.live(settings, died_at)) is not None:
        died_at.add(death)
        assert len(died_at) < every_kill.MOST
        print(json.dumps({"when": death[0], "file": death[1], "datasets": [is_dataset(uri) for uri in uris]}))


if __name__ == "__main__":
    main()
