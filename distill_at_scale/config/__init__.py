"""Settings of every verb, one pydantic model each. Every default has its only home here, or in the model it extends.

The command line, the jobs' YAML files and the functions of the package all fill these models, so an unknown or
invalid setting gives the same message everywhere. Names are accepted in any case. Several values may be joined, as in
``5,10``, except for paths and addresses, which may contain a comma.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from distill_at_scale.config.attribute import AttributeConfig as AttributeConfig
from distill_at_scale.config.forecast import ForecastConfig as ForecastConfig
from distill_at_scale.config.forget import ForgetConfig as ForgetConfig
from distill_at_scale.config.judging import CompareConfig as CompareConfig
from distill_at_scale.config.judging import EvaluateConfig as EvaluateConfig
from distill_at_scale.config.judging import ReportConfig as ReportConfig
from distill_at_scale.config.outputs import ExpandConfig as ExpandConfig
from distill_at_scale.config.outputs import ExportConfig as ExportConfig
from distill_at_scale.config.outputs import PredictConfig as PredictConfig
from distill_at_scale.config.submit import SubmitConfig as SubmitConfig
from distill_at_scale.config.tune import TuneConfig as TuneConfig
from distill_at_scale.config.values import (
    AtCommas,
    ClusterConfig,
    Distiller,
    Duration,
    GenieKind,
    Method,
    Model,
    PublicLog,
    Sampler,
    Share,
    Verb,
    Workers,
    at_commas,
)
from distill_at_scale.data.columns import SplitRule
from distill_at_scale.data.readers import LogOptions
from distill_at_scale.registry import EVERYTHING
from distill_at_scale.samplers.svp import Objective
from distill_at_scale.validation import OneOf


class FetchConfig(Verb):
    """Downloads a public dataset by name, checks it, and states its licence."""

    name: PublicLog
    """Dataset of the catalogue: ml-100k, ml-1m, ml-20m or amazon-beauty."""
    output: str | None = None
    """Folder or storage URI to download to. Default: the cache, $DAS_HOME or ~/.cache/distill_at_scale."""


class PrepareConfig(LogOptions, ClusterConfig):
    """Turns raw logs into a Dataset: validated, de-duplicated, filtered, numbered, split and sharded."""

    output: str
    """Folder or storage URI of the new dataset."""
    append: str | None = None
    """Dataset to append the input to: the result at --output is the same as if all files had been prepared at once,
    with the settings of that dataset, whose files are only read; those of its log are not read again."""
    keep_numbering: bool = False
    """With --append: users and items keep their numbers in that dataset, and new ones follow."""
    split: SplitRule = "leave_2"
    """Rule that divides rows into train, validation and test: leave_2 (each user's last row by time is test, the one
    before it validation), 20_percent_hist (each user's rows, shuffled, 80/10/10), temporal (at two points in time, the
    same for all users), column (by the log's own split column)."""
    validation_share: float = Field(0.1, gt=0, lt=1)
    """Share of the rows that --split temporal gives to validation."""
    test_share: float = Field(0.1, gt=0, lt=1)
    """Share of the rows, the latest ones, that --split temporal gives to test."""
    min_rating: float | None = Field(None, allow_inf_nan=False)
    """Drop rows with a lower rating; the remaining ratings count as implicit feedback."""
    min_user: int = Field(1, ge=1)
    """Drop users with fewer rows (repeated with --min-item until both hold)."""
    min_item: int = Field(1, ge=1)
    """Drop items with fewer rows."""
    duplicates: Literal["last", "first", "all"] = "last"
    """Rows to keep of several with the same user and item: the last by time, the first, or all."""
    max_bad_share: float = Field(0.01, ge=0, le=1)
    """Stop if a larger share of the rows is invalid; otherwise they go to quarantine and are counted."""
    shards: int | None = Field(None, ge=1, le=65536)
    """Number of shards. Default: a power of two that gives each about a million rows."""
    seed: int = Field(0, ge=0, lt=1 << 64)
    """Random seed of the shuffle of --split 20_percent_hist and of the order of a user's rows with the same time."""
    overwrite: bool = False
    """Replace a dataset that already exists at --output."""

    _columns_at_commas = field_validator("columns", mode="before")(at_commas)

    @model_validator(mode="after")
    def _numbering_is_of_a_dataset(self) -> PrepareConfig:
        if self.keep_numbering and self.append is None:
            raise ValueError("'keep_numbering' needs 'append': the dataset whose numbers are kept")
        return self

    @model_validator(mode="after")
    def _shares_leave_train_rows(self) -> PrepareConfig:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("'validation_share' and 'test_share' together must be below 1")
        return self


class InspectConfig(Verb):
    """Shows a dataset, sample or synthetic dataset on one screen: counts, splits, shards, origin, quarantine."""

    data: str
    """Dataset, sample or synthetic dataset to show."""
    verify: bool = False
    """Also compare every file with its recorded checksum."""


class FitConfig(ClusterConfig):
    """Fits a recommender on a dataset's train rows; open settings are selected on its validation rows."""

    data: str
    """Dataset, or synthetic dataset, to fit on."""
    model: Model
    """Model to fit. In closed form: popularity, ease, svd_ae, als, infinite_ae. Trained by gradients: bias, mf, elsa,
    neumf, mvae, svae, sasrec, gru4rec, lightgcn. For large catalogues: als, elsa. On synthetic users: infinite_ae,
    ease, mf, mvae; on synthetic sequences: sasrec, gru4rec. Or your own, as package.module:Class."""
    output: str
    """Folder or storage URI for the fitted model."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of the model, such as lam=5; `das settings MODEL` lists them."""
    solver: Literal["auto", "exact", "nystrom", "pcg"] | None = None
    """Solver of infinite_ae: exact (memory for users × users), pcg (the same answer with less memory), nystrom (an
    approximation by landmarks), or auto, which chooses by users, items, memory and workers and says why. Default:
    auto."""
    workers: Workers = 1
    """Number of workers that fit together, each on its own shards (for models trained by gradients, for als, and for
    infinite_ae with solver pcg or nystrom). The least and the most, such as 2:8, for a cluster whose nodes come and
    go: the fit goes on with those that are there (not for infinite_ae)."""
    gpu: bool = False
    """Fit on a GPU of the cluster; with several workers, on one GPU each."""
    checkpoint_every: int | None = Field(None, ge=1)
    """Steps between checkpoints. Default: one checkpoint after each pass over the rows."""
    keep_checkpoints: int = Field(2, ge=1)
    """Number of the newest checkpoints to keep while fitting; all are removed once the model is saved."""
    overwrite: bool = False
    """Replace a model that already exists at --output."""


class ProxyConfig(Verb):
    """Settings of the proxy model of the samplers svp_*."""

    objective: Objective = "implicit"
    """Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also for sequential use),
    or the squared error of its rating (explicit)."""
    proxy_epochs: int = Field(50, ge=1)
    """Passes over the train rows by the proxy of svp_*; a row's score is the mean over them."""
    workers: int = Field(1, ge=1)
    """Number of workers that train the proxy of svp_* together."""
    gpu: bool = False
    """Train the proxy of svp_* on one GPU per worker."""


class SampleConfig(ProxyConfig, ClusterConfig):
    """Keeps a part of a dataset's train rows: one dataset per budget, with the same validation and test rows."""

    data: str
    """Dataset to sample from."""
    sampler: Sampler
    """Sampler that selects rows: random, stratified, temporal, random_users, head_users, centrality, random_walk,
    forest_fire, density, sensitivity, sensitivity_users; by SVP-CF: svp_bias, svp_bias_prop, svp_bias_users,
    svp_bias_users_prop, svp_mf, svp_mf_prop, svp_mf_users, svp_mf_users_prop. Or your own, as
    package.module:OBJECT, or by a score: column=NAME keeps the rows with the largest numbers in that column.
    Stratified, density and sensitivity* keep some rows with a higher probability than others; their samples have its
    inverse as a column "weight", which ease, popularity, als and elsa (its mean for each user) use with --set
    weights=true, and other models ignore."""
    scores: str | None = None
    """For --sampler column=NAME: file or folder (Parquet, or CSV with column names) with the columns user_id, item_id
    and NAME; without item_id whole users are kept by their score. Default: the dataset's own rating or timestamp."""
    budget: Annotated[list[Share], AtCommas] = Field(min_length=1)
    """Share of the train rows to keep, above 0 and at most 1; several at once, such as 0.5,0.1,0.01."""
    output: str
    """Folder or storage URI; each sample is written to a folder SAMPLER-BUDGET below it."""
    seed: int = Field(0, ge=0, lt=1 << 64)
    """Random seed."""
    overwrite: bool = False
    """Replace samples that already exist at --output."""

    @property
    def budgets(self) -> list[float]:
        """Distinct budgets as numbers, the largest first."""
        return sorted({float(text) for text in self.budget}, reverse=True)


class SweepConfig(ClusterConfig):
    """Tries ways of making a dataset smaller (method × budget × model × seed) and shows what each of them keeps."""

    data: str
    """Dataset to make smaller."""
    methods: Annotated[list[Method], AtCommas] = Field(default_factory=lambda: ["all"], min_length=1)
    """Samplers and distillers (sketch, distill_cf, farzi) to try, or all. A distiller's budget is a share of the
    users."""
    budgets: Annotated[list[Share], AtCommas] = Field(
        default_factory=lambda: ["0.01", "0.05", "0.1", "0.5"], min_length=1
    )
    """Shares of the train rows to keep, above 0 and at most 1."""
    models: Annotated[list[Model], AtCommas] = Field(
        default_factory=lambda: ["popularity", "ease", "svd_ae", "infinite_ae"], min_length=2
    )
    """Two or more models; hyper-parameters are tuned on each dataset, by validation."""
    seeds: int = Field(1, ge=1)
    """Number of repetitions of everything random, with the seeds 0, 1, …"""
    output: str
    """Folder or storage URI for the trials, the small datasets and the logs."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of methods and models, such as distill_cf.steps=100 or mf.epochs=5; `das settings NAME` lists them."""
    gpu: bool = False
    """Use one GPU of the cluster for each model trained by gradients, each proxy of svp_* and each distiller. Trials of
    --search still use CPUs."""
    search: int = Field(0, ge=0)
    """Before the sweep, try this many settings of each model trained by gradients and of distill_cf on the full data's
    validation rows, and use the best. Settings given by --set are not searched. Needs Optuna (extra "search")."""
    time_budget: Duration | None = None
    """Stop after this long, such as 90s, 30m or 2h. Finished work is kept; run the same command again to continue."""
    mlflow: str | None = None
    """MLflow server or database to log to as well, such as http://HOST:5000 or sqlite:///mlflow.db (extra "mlflow").
    TensorBoard logs are always written, to tensorboard/ below --output."""
    overwrite: bool = False
    """Replace a sweep that already exists at --output."""

    @property
    def shares(self) -> list[float]:
        """Distinct budgets as numbers, the largest first."""
        return sorted({float(text) for text in self.budgets}, reverse=True)


class RecommendConfig(ClusterConfig):
    """Recommends the smallest dataset that keeps enough of a dataset's quality with a probability of 0.9, as predicted,
    sharpened by a forecast, or as measured by a sweep."""

    data: str
    """Dataset to make smaller."""
    keep: float = Field(0.95, gt=0, le=1)
    """Share of the full data's ndcg@10 to keep, as a mean over the models."""
    sweep: str | None = None
    """Sweep of this dataset: recommend from its measurements, not from what Data-Genie predicts."""
    forecast: str | None = None
    """Forecast of this dataset: what random users keep, at any budget, beside what is predicted or measured."""
    genie: str | None = None
    """Data-Genie trained by `das genie train`. Default: the one that comes with the package."""

    @model_validator(mode="after")
    def _one_source(self) -> RecommendConfig:
        if self.sweep is not None and self.genie is not None:
            raise ValueError("'sweep' and 'genie' were both given; choose what was measured or what is predicted")
        return self


class GenieTrainConfig(ClusterConfig):
    """Trains a Data-Genie on sweeps of many datasets."""

    sweeps: list[str] = Field(min_length=1)
    """Sweeps, whose datasets must still exist where they were swept; or Data-Genies, whose training data are reused."""
    output: str
    """Folder or storage URI for the Data-Genie."""
    kinds: Annotated[list[GenieKind], AtCommas] = Field(default_factory=list)
    """Models to choose from, by their regret on held-out datasets: additive, means, ridge, trees, pointwise, pairwise,
    blend, anchored. Default: all."""
    judge: bool = False
    """Also hold out each dataset (with all cuts of its log) in turn and measure the advice on it; takes minutes."""
    overwrite: bool = False
    """Replace a Data-Genie that already exists at --output."""


class DoctorConfig(ClusterConfig):
    """Checks this machine, the cluster and the storage, and says how to fix problems."""

    storage: str | None = None
    """Storage URI that must be readable and writable."""


class QuickstartConfig(ClusterConfig):
    """Runs everything once on real data: fetch, prepare, fit, evaluate, sweep, report, recommend."""

    name: PublicLog = "ml-100k"
    """Dataset of the catalogue: ml-100k, ml-1m, ml-20m or amazon-beauty."""
    output: str = "das-quickstart"
    """Folder for the dataset, the models, the metrics, the sweep and the report."""


class SettingsConfig(Verb):
    """Lists the settings of a model, sampler or distiller: name, type, default, meaning."""

    name: Annotated[str, OneOf(lambda: EVERYTHING, EVERYTHING.find)] | None = None
    """Model, sampler or distiller, by name or as package.module:Class. Without it: all names."""


class DistillConfig(ClusterConfig):
    """Learns a few synthetic users, or sequences, on which models train as well as on all real ones."""

    of_some_methods: ClassVar[tuple[str, ...]] = (
        "users",
        "sequences",
        "length",
        "student",
        "teachers_at",
        "privacy",
    )

    data: str
    """Dataset to distill."""
    method: Distiller = "distill_cf"
    """Distiller: distill_cf (synthetic users, learned by gradients through ∞-AE), sketch (synthetic users in closed
    form, by one randomised SVD, without training) or farzi (synthetic sequences, learned by gradients through the
    training of a sequential model). Or your own, as package.module:Class."""
    users: int | None = Field(None, ge=1)
    """Number of synthetic users. Default: distill_cf tries 20, 100 and 500 and keeps the best on validation; sketch
    makes 500, or all if there are fewer."""
    sequences: int = Field(50, ge=1)
    """Number of synthetic sequences (farzi)."""
    length: int = Field(20, ge=2)
    """Number of items per sequence (farzi), besides a last target; enough users must have at least as many train
    rows."""
    student: Literal["sasrec", "gru4rec"] = "sasrec"
    """Model that the sequences are learned for (farzi)."""
    teachers_at: str | None = None
    """Folder or storage URI where farzi stores its full-data models, so that other runs on the same dataset can reuse
    them. Default: with the run, and removed at its end."""
    privacy: dict[str, float] | None = None
    """Differential privacy for each user of the train rows (distill_cf), such as epsilon=8 or epsilon=8,delta=1e-6;
    also clip, batch_size (expected users of a step) and start (share of epsilon for the start). Default of delta: a
    power of ten that is at most 0.1/users. The noise comes from the operating system, not from --seed, so a run cannot
    be repeated; the epsilons of several results on the same users add up. Needs dp-accounting (extra "privacy")."""
    output: str
    """Folder or storage URI for the synthetic dataset."""
    from_: str | None = None
    """Earlier result of the same method (distill_cf or farzi) to start from, as of the same log before rows were
    appended: fewer steps suffice then. Its number of users or sequences and its settings are kept, and items are
    matched by their ids."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of the method, such as rows=unit; `das settings METHOD` lists them."""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """Random seed."""
    workers: Workers = 1
    """Number of workers that distill together, each on its own shards. The least and the most, such as 2:8, for a
    cluster whose nodes come and go: the run goes on with those that are there."""
    gpu: bool = False
    """Use one GPU of the cluster per worker."""
    checkpoint_every: int = Field(25, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(2, ge=1)
    """Number of the newest checkpoints to keep while distilling; all are removed once the result is written."""
    overwrite: bool = False
    """Replace a synthetic dataset that already exists at --output, or a run begun there with other settings."""
