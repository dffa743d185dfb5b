"""Settings of the verbs that judge models and small datasets: evaluate, compare, report."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from distill_at_scale.config.values import KS, AtCommas, ClusterConfig, Metric, Model, Verb
from distill_at_scale.evaluation.retention import DEFAULT_METRICS


class EvaluateConfig(ClusterConfig):
    """Ranks all items for every user with a fitted model and compares the rankings with the held-out rows."""

    data: str
    """Dataset with the held-out rows."""
    model: str
    """Folder or storage URI of a fitted model."""
    split: Literal["validation", "test"] = "test"
    """Held-out rows to predict."""
    output: str | None = None
    """File for the metrics, as JSON."""
    ks: Annotated[list[Annotated[int, Field(ge=1)]], AtCommas] = Field(default_factory=lambda: list(KS), min_length=1)
    """Cut-offs of the ranking metrics, such as 5,10."""
    users: int | None = Field(None, ge=1)
    """Number of users to measure on, drawn at random by a hash of their ids (about as many, since each is drawn on its
    own account); the result states a 95 % interval of each average over all users. Default: all."""
    seed: int = Field(0, ge=0)
    """Random seed of the negatives drawn for auc, of the resampled users, and of the draw of --users."""
    propensity: str | None = None
    """Also estimate off-policy what the model's first --ks items would have earned, by this column of logged
    propensities: the probability, above 0 and at most 1, with which the system of that time showed the row's item to
    its user. Needs them for every held-out row; rows without a success belong into the log too, with rating 0."""
    propensities: str | None = None
    """For --propensity: file or folder (Parquet, or CSV with column names) with the columns user_id, item_id and that
    of the propensities. The reward of a row is its rating, or 1 where the log has no ratings. They are read once and
    dealt by user, on several machines only beside an --output; otherwise each shard reads all of them."""
    resample: bool = False
    """Also average the ranking metrics over 100 resamples of the users (a Poisson bootstrap), and show the 90 %
    interval of these averages."""


class CompareConfig(ClusterConfig):
    """Fits the same models on a dataset and on samples of it, and shows what each of them keeps."""

    data: str
    """Full dataset."""
    samples: list[str] = Field(min_length=1)
    """Samples made from it. Distilled data are excluded; `das fit` and `das evaluate`, or a `das sweep` with their
    method, measure them."""
    models: Annotated[list[Model], AtCommas] = Field(min_length=2)
    """Two or more models, whose ranking is compared, such as ease,mf; hyper-parameters are tuned on each dataset."""
    output: str
    """Folder or storage URI for the measurements and the result."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of models, such as mf.epochs=5; `das settings MODEL` lists them."""
    metrics: Annotated[list[Metric], AtCommas] = Field(default_factory=lambda: list(DEFAULT_METRICS), min_length=1)
    """Metrics by which the rankings of the models are compared."""
    split: Literal["validation", "test"] = "test"
    """Held-out rows to predict."""
    seed: int = Field(0, ge=0)
    """Random seed of the negatives drawn for auc."""


class ReportConfig(Verb):
    """Writes the results of a sweep, or what is known of a small dataset, as one HTML page that works offline."""

    sweep: str | None = None
    """Sweep, finished or not: quality, cost, and a recommendation."""
    dataset: str | None = None
    """Instead of a sweep: a small dataset, of which the page tells quality, cost, transfer, privacy, noise, and whether
    it ranks models, as far as they have been measured."""
    comparison: str | None = None
    """For --dataset: folder of a das compare that it was part of, which has most of the answers."""
    output: str
    """File or storage URI for the page, such as report.html; an existing page is replaced."""
    keep: float = Field(0.95, gt=0)
    """Share of the full data's ndcg@10 that the recommended small dataset must keep."""

    @model_validator(mode="after")
    def _one_subject(self) -> ReportConfig:
        if (self.sweep is None) == (self.dataset is None):
            raise ValueError("give either 'sweep' or 'dataset'")
        if self.comparison is not None and self.dataset is None:
            raise ValueError("'comparison' goes with 'dataset'; leave it out for a sweep")
        return self
