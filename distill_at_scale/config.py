"""The settings of every verb: a pydantic model each; every default lives here (or in the model it extends), once.

The command line, the jobs' YAML files and the functions of the package all fill these models, so that an
unknown or wrong setting gives the same sentence everywhere.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from distill_at_scale.data.readers import LogOptions
from distill_at_scale.data.splits import SplitRule
from distill_at_scale.evaluation.retention import DEFAULT_METRICS
from distill_at_scale.samplers.svp.row_scores import Objective

KS = (10, 100)
"""Cut-offs of the ranking metrics."""


class _Verb(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def _at_commas(given: Any) -> Any:
    """Several values may stand in one, as ``0.5,0.1``."""
    several = given if isinstance(given, list | tuple) else [given]
    return [text.strip() for one in several for text in str(one).split(",")]


def _shares(given: list[str]) -> list[str]:
    """Refuses what is no share of the train rows."""
    for text in given:
        try:
            share = float(text)
        except ValueError:
            raise ValueError(f"'{text}' is not a number; a budget is a share of the train rows, as 0.1") from None
        if not 0 < share <= 1:
            raise ValueError(f"{text} is not a share of the train rows; it must be above 0 and at most 1")
    return given


class ClusterConfig(_Verb):
    """Where a verb runs."""

    address: str | None = None
    """an existing Ray cluster: auto, host:port or ray://host:port; default: the session that is there, else
    this machine"""


class FetchConfig(_Verb):
    """Downloads a named public dataset, checks it, and says under which licence it comes."""

    name: str
    """a dataset of the catalog: ml-100k, ml-1m, ml-20m, amazon-beauty"""
    output: str | None = None
    """folder or storage URI for it; default: the cache, $DAS_HOME or ~/.cache/distill_at_scale"""


class PrepareConfig(LogOptions, ClusterConfig):
    """Turns raw logs into a Dataset: checked, de-duplicated, filtered, numbered, split and sharded."""

    output: str
    """folder or storage URI of the new dataset"""
    split: SplitRule = "leave_2"
    """leave_2 (by time: last row test, the one before validation), 20_percent_hist (per user shuffled 80/10/10),
    temporal (by a global time), column (the log's own split column)"""
    validation_share: float = Field(0.1, gt=0, lt=1)
    """share of the rows that temporal gives to validation"""
    test_share: float = Field(0.1, gt=0, lt=1)
    """share of the rows, the latest, that temporal gives to test"""
    min_rating: float | None = Field(None, allow_inf_nan=False)
    """drop rows rated lower, which makes implicit feedback of ratings"""
    min_user: int = Field(1, ge=1)
    """rows that each user must have (iterated with --min-item until both hold)"""
    min_item: int = Field(1, ge=1)
    """rows that each item must have"""
    duplicates: Literal["last", "first", "all"] = "last"
    """which rows of one user and item stay: the last by time, the first, or all"""
    max_bad_share: float = Field(0.01, ge=0, le=1)
    """share of rows that may go to quarantine before the job stops"""
    shards: int | None = Field(None, ge=1, le=65536)
    """number of shards; default: about a million rows in each, a power of two"""
    seed: int = Field(0, ge=0, lt=1 << 64)
    """Random seed: of the shuffle of 20_percent_hist, and of the order of a user's rows with the same time."""
    overwrite: bool = False
    """replace a dataset that is at the output already"""

    @model_validator(mode="after")
    def _shares_leave_train_rows(self) -> PrepareConfig:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share together must be below 1")
        return self


class InspectConfig(_Verb):
    """Shows a dataset on one screen: counts, splits, shards, lineage, quarantine."""

    data: str
    """a dataset"""
    verify: bool = False
    """also compare every file with its checksum"""


class FitConfig(ClusterConfig):
    """Fits a recommender on a dataset's train rows; what is not set is chosen on its validation rows."""

    data: str
    """a dataset, or a synthetic one"""
    model: str
    """closed form: popularity, ease, svd_ae, infinite_ae; trained by gradients: bias, mf, neumf, mvae, svae, sasrec,
    gru4rec, lightgcn; of synthetic users learn infinite_ae, ease, mf and mvae, of synthetic
    sequences sasrec and gru4rec"""
    output: str
    """folder or storage URI for the fitted model"""
    set: dict[str, Any] = Field(default_factory=dict)
    """the model's own settings, as lam=5; an unknown one lists them all"""
    solver: Literal["auto", "exact", "nystrom", "pcg"] | None = None
    """of infinite_ae: exact (users × users in memory), pcg (the same answer in less memory), nystrom (an approximation
    by landmarks) or auto, which chooses by users, items, memory and workers, and says why; default: auto"""
    workers: int = Field(1, ge=1)
    """workers that fit together, each on its own shards (models trained by gradients; infinite_ae by pcg or nystrom)"""
    gpu: bool = False
    """fit on a GPU of the cluster, or on one for each worker"""
    checkpoint_every: int | None = Field(None, ge=1)
    """steps between checkpoints; default: one after each pass over the rows"""
    keep_checkpoints: int = Field(2, ge=1)
    """how many checkpoints are kept, the newest; all are removed once the model is saved"""
    overwrite: bool = False
    """replace a model that is at the output already"""


class EvaluateConfig(ClusterConfig):
    """Ranks all items for every user and compares with the rows held out."""

    data: str
    """a dataset"""
    model: str
    """a fitted model"""
    split: Literal["validation", "test"] = "test"
    """which rows to predict"""
    output: str | None = None
    """file for the metrics as JSON"""
    ks: list[int] = Field(default_factory=lambda: list(KS))
    """cut-offs of the ranking metrics"""
    seed: int = Field(0, ge=0)
    """of the negatives drawn for auc, and of the resampled users"""
    resample: bool = False
    """also average the ranking metrics over 100 resamples of the users (a Poisson bootstrap)"""


class SampleConfig(ClusterConfig):
    """Keeps a part of a dataset's train rows: one dataset for each budget, with the same validation and test."""

    data: str
    """a dataset"""
    sampler: str
    """random, stratified, temporal, random_users, head_users, centrality, random_walk, forest_fire, density,
    sensitivity, sensitivity_users; SVP-CF: svp_bias, svp_bias_prop, svp_bias_users, svp_bias_users_prop, svp_mf,
    svp_mf_prop, svp_mf_users, svp_mf_users_prop"""
    budget: list[str] = Field(min_length=1)
    """share of the train rows to keep, above 0 and at most 1; several at once, as 0.5,0.1,0.01"""
    output: str
    """folder or storage URI; the samples lie in it as <sampler>-<budget>"""
    seed: int = Field(0, ge=0, lt=1 << 64)
    """of everything that is drawn"""
    objective: Objective = "implicit"
    """by what the proxy of svp_* finds rows hard: implicit, their rank among items not seen (also for sequential
    use); explicit, the squared error of their ratings"""
    proxy_epochs: int = Field(50, ge=1)
    """passes over the train rows of the proxy of svp_*; a row's score is the mean over them"""
    workers: int = Field(1, ge=1)
    """workers that train the proxy of svp_* together"""
    gpu: bool = False
    """train the proxy of svp_* on a GPU for each worker"""
    overwrite: bool = False
    """replace samples that are at the output already"""

    _several_at_once = field_validator("budget", mode="before")(_at_commas)

    _are_shares = field_validator("budget")(_shares)

    @property
    def budgets(self) -> list[float]:
        """The shares as numbers, each once, the largest first."""
        return sorted({float(text) for text in self.budget}, reverse=True)


class CompareConfig(ClusterConfig):
    """Fits the same models on a dataset and on small ones made of it: what does each of them keep?"""

    data: str
    """the full dataset"""
    samples: list[str] = Field(min_length=1)
    """small datasets made of it"""
    models: list[str] = Field(min_length=2)
    """at least two models, whose ranking is compared; hyper-parameters are chosen anew on each dataset"""
    output: str
    """folder or storage URI for the fits and the result"""
    set: dict[str, Any] = Field(default_factory=dict)
    """settings of models, as mf.epochs=5"""
    metrics: list[str] = Field(default_factory=lambda: list(DEFAULT_METRICS), min_length=1)
    """test metrics whose rankings of the models are compared"""
    split: Literal["validation", "test"] = "test"
    """which rows to predict"""
    seed: int = Field(0, ge=0)
    """of the negatives drawn for auc"""

    _several_at_once = field_validator("models", "metrics", mode="before")(_at_commas)


class SweepConfig(ClusterConfig):
    """Tries ways of shrinking a dataset: every method × budget × model × seed. What does each of them keep?"""

    data: str
    """a dataset"""
    methods: list[str] = Field(default_factory=lambda: ["all"], min_length=1)
    """samplers and distillers (sketch, distill_cf, farzi), or all; a distiller's budget is a share of the users"""
    budgets: list[str] = Field(default_factory=lambda: ["0.01", "0.05", "0.1", "0.5"], min_length=1)
    """shares of the train rows to keep, above 0 and at most 1"""
    models: list[str] = Field(default_factory=lambda: ["popularity", "ease", "svd_ae", "infinite_ae"], min_length=2)
    """at least two models; hyper-parameters are chosen anew on each dataset, by validation"""
    seeds: int = Field(1, ge=1)
    """how often everything that is drawn is drawn anew: seeds 0, 1, …"""
    output: str
    """folder or storage URI for the trials, the small datasets and the logs"""
    set: dict[str, Any] = Field(default_factory=dict)
    """settings of methods and models, as distill_cf.steps=100 or mf.epochs=5"""
    gpu: bool = False
    """a GPU of the cluster for each model that is trained by gradients, proxy of svp_* and distiller; trials of
    --search go on using CPUs"""
    search: int = Field(0, ge=0)
    """first try so many settings of every model that is trained by gradients, and of distill_cf, on the full data's
    validation rows, and go on with the best; what --set gives stays. Needs Optuna: pip install optuna"""
    time_budget: str | None = None
    """stop after so long, as 90s, 30m, 2h; what is done is kept, and the same command goes on"""
    mlflow: str | None = None
    """log to this MLflow too, as http://HOST:5000 or sqlite:///mlflow.db (pip install mlflow); TensorBoard's logs are
    always in tensorboard/ of the output"""
    overwrite: bool = False
    """replace a sweep that is at the output already"""

    _several_at_once = field_validator("methods", "budgets", "models", mode="before")(_at_commas)
    _are_shares = field_validator("budgets")(_shares)

    @property
    def shares(self) -> list[float]:
        """The budgets as numbers, each once, the largest first."""
        return sorted({float(text) for text in self.budgets}, reverse=True)


class RecommendConfig(ClusterConfig):
    """Says which method, at which budget, keeps enough of a dataset: from its features, or from a sweep."""

    data: str
    """a dataset"""
    keep: float = Field(0.95, gt=0, le=1)
    """share of ndcg@10 to keep, mean over the models"""
    sweep: str | None = None
    """a sweep of this dataset: what it measured, in the place of what Data-Genie expects"""
    genie: str | None = None
    """a Data-Genie of your own; default: the one that comes with the package"""


class GenieTrainConfig(ClusterConfig):
    """Trains a Data-Genie on sweeps of many datasets."""

    sweeps: list[str] = Field(min_length=1)
    """sweeps, whose datasets must be where they were; or Data-Genies, whose training data are taken over"""
    output: str
    """folder or storage URI for the Data-Genie"""
    kinds: list[str] = Field(default_factory=list)
    """models to choose among, by their regret on datasets held out: additive, means, ridge, trees, pointwise, pairwise,
    blend, anchored; default: all"""
    judge: bool = False
    """also leave every dataset (all cuts of one log) out in turn and judge the advice on it; takes minutes"""
    overwrite: bool = False
    """replace a Data-Genie that is at the output already"""

    _several_at_once = field_validator("kinds", mode="before")(_at_commas)


class DoctorConfig(ClusterConfig):
    """Says what is missing or wrong on this machine, the cluster and the storage, and the mend."""

    storage: str | None = None
    """a storage URI that must be readable and writable"""


class QuickstartConfig(ClusterConfig):
    """Real data, from nothing to a recommendation: fetch, prepare, fit, evaluate, sweep, report."""

    name: str = "ml-100k"
    """a dataset of the catalog"""
    output: str = "das-quickstart"
    """folder for the dataset, the models, the metrics, the sweep and the report"""


class DistillConfig(ClusterConfig):
    """Learns a few synthetic users, or sequences, that train models as well as all real ones do."""

    data: str
    """a dataset"""
    method: Literal["distill_cf", "sketch", "farzi"] = "distill_cf"
    """synthetic users by distill_cf (learned by gradients through ∞-AE) or sketch (in closed form: one randomised SVD,
    no training); sequences by farzi (learned by gradients through the training of a sequential model)"""
    users: int = Field(500, ge=1)
    """synthetic users, of distill_cf and sketch"""
    sequences: int = Field(50, ge=1)
    """synthetic sequences, of farzi"""
    length: int = Field(20, ge=2)
    """items of a sequence, of farzi; so many train rows must as many users have"""
    student: str = "sasrec"
    """the model that farzi's sequences are made for: sasrec or gru4rec"""
    teachers_at: str | None = None
    """folder or storage URI where farzi's full-data models are kept and looked for, so that runs that make other
    sequences of the same dataset need not train them again; default: with the run, and removed at its end"""
    output: str
    """folder or storage URI for the synthetic dataset"""
    set: dict[str, Any] = Field(default_factory=dict)
    """the method's own settings, as rows=unit; an unknown one lists them all"""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """of everything that is drawn"""
    workers: int = Field(1, ge=1)
    """workers that distill together, each on its own shards"""
    gpu: bool = False
    """one GPU of the cluster for each worker"""
    checkpoint_every: int = Field(25, ge=1)
    """steps between checkpoints"""
    keep_checkpoints: int = Field(2, ge=1)
    """how many checkpoints are kept, the newest; all are removed once the result is written"""
    overwrite: bool = False
    """replace a synthetic dataset, or a run of other settings, that is at the output already"""


class ExportConfig(_Verb):
    """Writes synthetic users or sequences as a plain log of interactions that any trainer reads."""

    data: str
    """a synthetic dataset"""
    output: str
    """folder or storage URI for the log"""
    format: Literal["parquet", "recbole"] = "parquet"
    """parquet (user_id, item_id; of sequences also timestamp), or a RecBole .inter file"""
    how: Literal["top_k", "sample"] = "top_k"
    """a user's items, and the item of a sequence's place: those with the largest numbers, or drawn in proportion"""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """of the draws"""


class ReportConfig(_Verb):
    """Shows what a sweep found on one HTML page that needs no network: quality, cost, and a recommendation."""

    sweep: str
    """a sweep, finished or not"""
    output: str
    """file or storage URI for the page, as report.html; one that is there is replaced"""
    keep: float = Field(0.95, gt=0)
    """share of full-data ndcg@10 that the recommended small dataset must keep"""
