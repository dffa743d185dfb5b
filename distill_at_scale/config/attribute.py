"""Settings of the verb attribute."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from distill_at_scale.config.values import ClusterConfig


class AttributeConfig(ClusterConfig):
    """Gives each train row a value: how much the validation loss of a model falls per unit of the row's weight."""

    data: str
    """Dataset with validation rows."""
    model: Literal["ease", "infinite_ae", "sasrec", "gru4rec", "mf"]
    """Model whose validation loss it is. In closed form: ease (memory for items × items) or infinite_ae (memory for
    users × items). Through each step of a training, for about four times its cost: sasrec, gru4rec or mf; by default a
    smooth one (8 to 10 epochs; sequences without dropout, with eps=1e-4 and a rate that falls), since the values of a
    rough one do not predict what dropping rows does. They are values of one training, and differ from those of another
    (seed=1 in settings); average those of several seeds where the rows of any training are meant."""
    output: str
    """Parquet file for the values, local or on storage: user_id, item_id, value. `das sample --sampler column=value
    --scores FILE` keeps the rows with the largest values."""
    users: int | None = Field(default=None, ge=10)
    """Attribute only the rows of this number of users, drawn by a hash of their ids, with time and memory for them
    alone. A rater learns the values from features of the rows (popularity, position, times, ratings, similarities) and
    scores the rows of all users. The result holds its rank correlation with values of users left out; below 0.2, do
    not use the scores. Default: all users."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of the model, such as lam=5 (an open λ is selected on the validation rows) or epochs=20 (of which all
    are done)."""
    overwrite: bool = False
    """Replace a file that already exists at --output."""
