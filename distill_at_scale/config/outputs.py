"""Settings of the verbs that hand results to other programs: predict, export and expand."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from distill_at_scale.config.values import AtCommas, ClusterConfig
from distill_at_scale.data.columns import History


class PredictConfig(ClusterConfig):
    """Recommends to each user its k best items by a fitted model, by the log's own ids."""

    data: str
    """Dataset with the users and their history; the model must have been fitted on it, or have the same items."""
    model: str
    """Folder or storage URI of a fitted model."""
    output: str
    """Folder or storage URI for the lists: predictions/*.parquet with user_id, item_id, rank and score."""
    users: Annotated[str, BeforeValidator(str)] = "all"
    """Users who get a list: all, a number of users drawn at random, or a file with their ids (one per line, or a column
    user_id in CSV or Parquet)."""
    k: int = Field(20, ge=1)
    """Number of items per list; fewer if fewer remain."""
    history: History = "all"
    """Rows of a user that are the model's input, and whose items are not recommended again: all, train+validation (the
    lists that `das evaluate` measures on the test rows) or train (those on the validation rows)."""
    include_seen: bool = False
    """Also recommend items of the history; most models do not learn to score them."""
    similar_items: bool = False
    """Also write the k items most similar to each item (similar_items/*.parquet): those recommended to a user with only
    that item. With --users 0, only these are written."""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """Random seed of the draw of users."""
    overwrite: bool = False
    """Replace predictions that already exist at --output."""

    @model_validator(mode="after")
    def _something_to_do(self) -> PredictConfig:
        if self.users.strip().isdecimal() and int(self.users) == 0 and not self.similar_items:
            raise ValueError("'users' 0 asks for no list; give at least 1, or 'similar_items'")
        return self


class ExportConfig(ClusterConfig):
    """Writes a dataset, a sample or synthetic data as a plain interaction log that any trainer reads, by the log's own
    ids."""

    data: str
    """Dataset, sample or synthetic dataset to export. A synthetic sequence has a row for each of its --length items and
    one for the item after them, which is only a target; with coupled=true, --length rows."""
    output: str
    """Folder or storage URI for the log."""
    format: Literal["parquet", "csv", "recbole", "hf"] = "parquet"
    """File format: parquet or csv (interactions/part-*, with a column split), recbole (FOLDER.train.inter, .valid.inter
    and .test.inter, which RecBole reads by benchmark_filename), or hf (a folder for the Hugging Face Hub: Parquet files
    of each split, a dataset card, Croissant metadata). Ids keep all their digits in each."""
    splits: Annotated[list[Literal["train", "validation", "test"]], AtCommas] = Field(default_factory=list)
    """Splits to export, such as train,test. Default: all; for a sample only train, since the others are its
    parent's."""
    how: Literal["top_k", "sample"] = "top_k"
    """Conversion of real-valued rows to items: those with the largest values (top_k), or drawn in proportion to them
    (sample)."""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """Random seed of the draws."""
    escape_formulas: bool = False
    """Put ' before text ids that begin with = + - @ or a tab, which spreadsheets read as formulas."""
    overwrite: bool = False
    """Replace an export that already exists at --output."""


class ExpandConfig(ClusterConfig):
    """Makes a log of any size that looks like a dataset (fractal expansion), for rehearsals at scale."""

    data: str
    """Dataset whose structure the log has; rows of all splits are used."""
    by: str
    """Blocks of users x blocks of items, such as 32x64: the log has up to 32 times as many users and 64 times as many
    items as the dataset. The number of rows follows; it is logged before the work starts."""
    output: str
    """Folder or storage URI; the log is written to log/*.parquet below it, with numbers as ids."""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """Random seed."""
    overwrite: bool = False
    """Replace an expansion that already exists at --output."""

    @field_validator("by")
    @classmethod
    def _two_numbers(cls, given: str) -> str:
        numbers = given.strip().lower().replace("×", "x").split("x")
        if len(numbers) != 2 or not all(n.isdecimal() and n.isascii() and int(n) for n in numbers):
            raise ValueError(f"'{given}' is not two numbers of at least 1; write it as 32x64 (users x items)")
        return "x".join(str(int(n)) for n in numbers)

    @property
    def blocks(self) -> tuple[int, int]:
        """Numbers of blocks of users and of items."""
        users, items = self.by.split("x")
        return int(users), int(items)
