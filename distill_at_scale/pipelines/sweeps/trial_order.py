"""The order of trials of which some start only when others have ended, as Ray Tune asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher


class InTurn(Searcher):
    """Gives Tune known configurations in their order, those that can start.

    One that comes after another waits until that has ended, however it did: what fails on few rows may work on more.
    """

    def __init__(self, configs: Sequence[Mapping[str, Any]], after: Mapping[str, str]) -> None:
        """``configs`` hold the key of a trial at ``["trial"]["key"]``; ``after`` maps keys to those they wait for."""
        super().__init__()
        self._left, self._after = list(configs), dict(after)
        self._given, self._ended = dict[str, str](), set[str]()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        for k, config in enumerate(self._left):
            key = config["trial"]["key"]
            if self._after.get(key, key) in (key, *self._ended):
                self._given[trial_id] = key
                return dict(self._left.pop(k))
        return None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._ended.add(self._given[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: what is done is recorded with the results."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing; see :meth:`save`."""
