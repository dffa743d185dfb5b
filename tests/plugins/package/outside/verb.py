"""A verb of one's own: its settings, and what it does."""

from __future__ import annotations

from pydantic import BaseModel

from distill_at_scale.cli import verbs
from distill_at_scale.config.values import Verb
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.pipelines.runtime.verb import verb


class CountConfig(Verb):
    """Counts the users of a dataset."""

    data: str
    """Dataset to count."""
    factor: int = 1
    """Factor of the count."""


class Count(BaseModel):
    """What was counted."""

    users: int


@verb(CountConfig, "data")
def count(config: CountConfig) -> Count:
    """Counts."""
    return Count(users=config.factor * Dataset.open(config.data).n_users)


COUNT = verbs.Verb(CountConfig, positional="data", home="outside.verb:count")
