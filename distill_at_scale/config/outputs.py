"""The settings of the verbs that hand results to other programs: predict and export."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from distill_at_scale.config.values import AtCommas, ClusterConfig
from distill_at_scale.data.columns import History


class PredictConfig(ClusterConfig):
    """Recommends items to users with a fitted model: their k best items each, by the log's own ids."""

    data: str
    """Dataset with the users and their history, which the model was fitted on or has the items of."""
    model: str
    """Folder or storage URI of a fitted model."""
    output: str
    """Folder or storage URI for the lists: predictions/*.parquet with user_id, item_id, rank and score."""
    users: Annotated[str, BeforeValidator(str)] = "all"
    """Users who get a list: all, a number of users drawn at random, or a file with their ids (one a line, or a column
    user_id in CSV or Parquet)."""
    k: int = Field(20, ge=1)
    """Items of a list; fewer where fewer are left."""
    history: History = "all"
    """Which of a user's rows the model goes by, and whose items are not recommended again: all, train+validation (the
    lists that `das evaluate` measures on the test rows) or train (those on the validation rows)."""
    include_seen: bool = False
    """Recommend items of the history, too; most models do not learn to score them."""
    similar_items: bool = False
    """Also write the k items most similar to each item (similar_items/*.parquet): those recommended to a user who has
    nothing else. With --users 0, these alone."""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """Random seed, of the draw of users."""
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
    """Dataset, sample or synthetic dataset to export."""
    output: str
    """Folder or storage URI for the log."""
    format: Literal["parquet", "csv", "recbole", "hf"] = "parquet"
    """parquet or csv (interactions/part-*, with a column split), recbole (FOLDER.train.inter, .valid.inter and
    .test.inter, which RecBole reads by benchmark_filename), or hf (a folder for the Hugging Face Hub: Parquet files of
    each split, a dataset card, Croissant metadata). Ids keep all their digits in each."""
    splits: Annotated[list[Literal["train", "validation", "test"]], AtCommas] = Field(default_factory=list)
    """Splits to export, as train,test. Default: all, and of a sample train alone, since the others are those of its
    parent."""
    how: Literal["top_k", "sample"] = "top_k"
    """How real-valued rows become items: those with the largest values (top_k), or drawn in proportion to them
    (sample)."""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """Random seed, of the draws."""
    escape_formulas: bool = False
    """Put ' before text ids that begin with = + - @ or a tab, which a spreadsheet takes for formulas."""
    overwrite: bool = False
    """Replace an export that already exists at --output."""
