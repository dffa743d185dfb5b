# Made by `python -m distill_at_scale.stubs` of the settings; a test compares it.

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal, Protocol, overload

from distill_at_scale import distillers as distillers, models as models, samplers as samplers
from distill_at_scale.config import CompareConfig, DistillConfig, DoctorConfig, EvaluateConfig, FetchConfig, FitConfig, ForecastConfig, GenieTrainConfig, InspectConfig, PrepareConfig, QuickstartConfig, RecommendConfig, SampleConfig, SweepConfig
from distill_at_scale.config.outputs import ExpandConfig, ExportConfig, PredictConfig
from distill_at_scale.data.dataset import Dataset as Dataset
from distill_at_scale.distillation.synthetic import SyntheticDataset as SyntheticDataset
from distill_at_scale.errors import DasError as DasError
from distill_at_scale.models import load_model as load_model
from distill_at_scale.pipelines.compare import Comparison
from distill_at_scale.pipelines.distill import DistillResult
from distill_at_scale.pipelines.doctor import Check
from distill_at_scale.pipelines.evaluate import Evaluation
from distill_at_scale.pipelines.expand import Expansion
from distill_at_scale.pipelines.export import ExportResult
from distill_at_scale.pipelines.fetch import FetchResult
from distill_at_scale.pipelines.fit import FitResult
from distill_at_scale.pipelines.genie import GenieResult
from distill_at_scale.pipelines.predict import Predictions
from distill_at_scale.pipelines.quickstart import Quickstart
from distill_at_scale.pipelines.recommend import Recommendation
from distill_at_scale.pipelines.runtime.session import connect as connect
from distill_at_scale.pipelines.sample import Samples
from distill_at_scale.pipelines.sweeps.forecast_result import ForecastResult
from distill_at_scale.pipelines.sweeps.sweep_result import SweepResult
from distill_at_scale.report.html import write_report as write_report
from distill_at_scale.methods import DistillerMethod, SamplerMethod
from distill_at_scale.models.base import Recommender

__version__: str

class HasAddress(Protocol):
    """A Dataset, a SyntheticDataset, or a result of a verb."""

    uri: str

Address = str | PathLike[str] | HasAddress

@overload
def compare(
    data: Address,
    samples: Address | Sequence[Address],
    *,
    models: str | Sequence[str],
    output: Address,
    set: dict[str, Any] = {},
    metrics: str | Sequence[str] = ['ndcg@10', 'hr@10', 'psp@10', 'ndcg@100', 'hr@100', 'psp@100', 'auc'],
    split: Literal['validation', 'test'] = 'test',
    seed: int = 0,
    address: str | None = None,
) -> Comparison:
    """Fits every model on the full and on every small dataset and compares them on the full one's test rows.

    A user's history is that of the full dataset in both cases: what was left out is training data, not what the
    service knows of a user when it is asked. Fits that leave room for others run side by side, one task each; the
    models are not kept, what they measure is, so that a comparison that was interrupted goes on where it was, and
    one with more datasets or models takes up what is known.

    Args:
        data: Full dataset.
        samples: Small datasets made from it.
        models: Two or more models, whose ranking is compared, such as ease,mf; hyper-parameters are tuned on each
            dataset.
        output: Folder or storage URI for the measurements and the result.
        set: Settings of models, such as mf.epochs=5; `das settings MODEL` lists them. Default: {}.
        metrics: Metrics by which the rankings of the models are compared. Default: ['ndcg@10', 'hr@10', 'psp@10',
            'ndcg@100', 'hr@100', 'psp@100', 'auc'].
        split: Held-out rows to predict. Default: 'test'.
        seed: Random seed of the negatives drawn for auc. Default: 0.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: unknown model or setting, a dataset that is not part of the full one, a metric that is not measured.
    """
@overload
def compare(config: CompareConfig, /, **changes: Any) -> Comparison: ...


@overload
def distill(
    data: Address,
    method: str | DistillerMethod = 'distill_cf',
    *,
    output: Address,
    users: int = 500,
    sequences: int = 50,
    length: int = 20,
    student: Literal['sasrec', 'gru4rec'] = 'sasrec',
    teachers_at: Address | None = None,
    set: dict[str, Any] = {},
    seed: int = 0,
    workers: int = 1,
    gpu: bool = False,
    checkpoint_every: int = 25,
    keep_checkpoints: int = 2,
    overwrite: bool = False,
    address: str | None = None,
) -> DistillResult:
    """Distills a dataset; see :class:`~distill_at_scale.config.DistillConfig` for the settings.

    Args:
        data: Dataset to distill.
        method: Distiller: distill_cf (synthetic users, learned by gradients through ∞-AE), sketch (synthetic
            users in closed form, by one randomised SVD, without training) or farzi (synthetic sequences, learned
            by gradients through the training of a sequential model). Or your own, as package.module:Class.
            Default: 'distill_cf'.
        output: Folder or storage URI for the synthetic dataset.
        users: Number of synthetic users (distill_cf, sketch). Default: 500.
        sequences: Number of synthetic sequences (farzi). Default: 50.
        length: Number of items per sequence (farzi); enough users must have at least as many train rows. Default:
            20.
        student: Model that the sequences are learned for (farzi). Default: 'sasrec'.
        teachers_at: Folder or storage URI where farzi stores its full-data models, so that other runs on the same
            dataset can reuse them. Default: with the run, and removed at its end.
        set: Settings of the method, such as rows=unit; `das settings METHOD` lists them. Default: {}.
        seed: Random seed. Default: 0.
        workers: Number of workers that distill together, each on its own shards. Default: 1.
        gpu: Use one GPU of the cluster per worker. Default: False.
        checkpoint_every: Steps between checkpoints. Default: 25.
        keep_checkpoints: Number of the newest checkpoints to keep while distilling; all are removed once the
            result is written. Default: 2.
        overwrite: Replace a synthetic dataset that already exists at --output, or a run begun there with other
            settings. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: no dataset, a wrong setting, more users than there are or longer sequences than theirs, an output
            that exists or in which another run has begun, too little memory, a loss that is NaN.
    """
@overload
def distill(config: DistillConfig, /, **changes: Any) -> DistillResult: ...


@overload
def doctor(
    *,
    storage: Address | None = None,
    address: str | None = None,
) -> list[Check]:
    """All checks, in the order in which they are best mended.

    With ``address`` a running Ray cluster is looked at, without it whether Ray starts here; with ``storage`` a
    probe file is written below that folder.

    Args:
        storage: Storage URI that must be readable and writable. Default: None.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.
    """
@overload
def doctor(config: DoctorConfig, /, **changes: Any) -> list[Check]: ...


@overload
def evaluate(
    data: Address,
    model: Address | Recommender,
    *,
    split: Literal['validation', 'test'] = 'test',
    output: Address | None = None,
    ks: int | Sequence[int] = [10, 100],
    seed: int = 0,
    resample: bool = False,
    address: str | None = None,
) -> Evaluation:
    """Measures a fitted model; see :class:`~distill_at_scale.config.EvaluateConfig` for the settings.

        das.evaluate(dataset, das.models.Ease(lam=400).fit(dataset)).metrics["ndcg@10"]

    The model may be in memory only. A user's input is the train rows for the validation split, and train and
    validation rows for the test split; those items are masked, all others are ranked.

    Args:
        data: Dataset with the held-out rows.
        model: Folder or storage URI of a fitted model.
        split: Held-out rows to predict. Default: 'test'.
        output: File for the metrics, as JSON. Default: None.
        ks: Cut-offs of the ranking metrics, such as 5,10. Default: [10, 100].
        seed: Random seed of the negatives drawn for auc and of the resampled users. Default: 0.
        resample: Also average the ranking metrics over 100 resamples of the users (a Poisson bootstrap). Default:
            False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: no dataset or model, a model of another item numbering, a split without rows.
    """
@overload
def evaluate(config: EvaluateConfig, /, **changes: Any) -> Evaluation: ...


@overload
def expand(
    data: Address,
    *,
    by: str,
    output: Address,
    seed: int = 0,
    overwrite: bool = False,
    address: str | None = None,
) -> Expansion:
    """Makes a log of any size that looks like a dataset; see :class:`~distill_at_scale.config.ExpandConfig`.

        das.expand(dataset, by="32x64", output="s3://bucket/rehearsal").log

    How active users and how popular items are, and what users have in common, is as in the dataset (see
    `data.expansion`). The log depends on the dataset and the settings alone. Run again after a kill, the same command
    keeps the parts that are done.

    Args:
        data: Dataset whose structure the log has; rows of all splits are used.
        by: Blocks of users x blocks of items, such as 32x64: the log has up to 32 times as many users and 64
            times as many items as the dataset. The number of rows follows; it is logged before the work starts.
        output: Folder or storage URI; the log is written to log/*.parquet below it, with numbers as ids.
        seed: Random seed. Default: 0.
        overwrite: Replace an expansion that already exists at --output. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        SettingError: more blocks than users or items, or more items than a dataset can number.
        DasError: no dataset, an output that exists, a local disk without room for the log.
    """
@overload
def expand(config: ExpandConfig, /, **changes: Any) -> Expansion: ...


@overload
def export(
    data: Address,
    *,
    output: Address,
    format: Literal['parquet', 'csv', 'recbole', 'hf'] = 'parquet',
    splits: Literal['train', 'validation', 'test'] | Sequence[Literal['train', 'validation', 'test']] = [],
    how: Literal['top_k', 'sample'] = 'top_k',
    seed: int = 0,
    escape_formulas: bool = False,
    overwrite: bool = False,
    address: str | None = None,
) -> ExportResult:
    """Writes a dataset, a sample or synthetic data as a plain log; see
    :class:`~distill_at_scale.config.ExportConfig` for the settings.

    Users and items have the ids of the log, synthetic users are numbered from 0, and so are the times of sequences;
    ``das prepare`` reads what is written, too.

    Args:
        data: Dataset, sample or synthetic dataset to export.
        output: Folder or storage URI for the log.
        format: File format: parquet or csv (interactions/part-*, with a column split), recbole
            (FOLDER.train.inter, .valid.inter and .test.inter, which RecBole reads by benchmark_filename), or hf
            (a folder for the Hugging Face Hub: Parquet files of each split, a dataset card, Croissant metadata).
            Ids keep all their digits in each. Default: 'parquet'.
        splits: Splits to export, such as train,test. Default: all; for a sample only train, since the others are
            its parent's.
        how: Conversion of real-valued rows to items: those with the largest values (top_k), or drawn in
            proportion to them (sample). Default: 'top_k'.
        seed: Random seed of the draws. Default: 0.
        escape_formulas: Put ' before text ids that begin with = + - @ or a tab, which spreadsheets read as
            formulas. Default: False.
        overwrite: Replace an export that already exists at --output. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: no dataset, a file of it that is missing or altered, a split without rows, an output that exists,
            ids or times that the format cannot hold.
    """
@overload
def export(config: ExportConfig, /, **changes: Any) -> ExportResult: ...


@overload
def fetch(
    name: str,
    *,
    output: Address | None = None,
) -> FetchResult:
    """Brings a public log (``fetch("ml-100k")`` will do) into the folder ``output``.

    An archive that the user has put into that folder by hand is taken before any other source.

    Args:
        name: Dataset of the catalogue: ml-100k, ml-1m, ml-20m or amazon-beauty.
        output: Folder or storage URI to download to. Default: the cache, $DAS_HOME or ~/.cache/distill_at_scale.

    Raises:
        DasError: unknown name; storage out of reach; no source could serve (the sentence says how to put the
            file there by hand).
    """
@overload
def fetch(config: FetchConfig, /, **changes: Any) -> FetchResult: ...


@overload
def fit(
    data: Address,
    model: str | Recommender,
    *,
    output: Address,
    set: dict[str, Any] = {},
    solver: Literal['auto', 'exact', 'nystrom', 'pcg'] | None = None,
    workers: int = 1,
    gpu: bool = False,
    checkpoint_every: int | None = None,
    keep_checkpoints: int = 2,
    overwrite: bool = False,
    address: str | None = None,
) -> FitResult:
    """Fits a model and saves it; see :class:`~distill_at_scale.config.FitConfig` for the settings.

    The rows are read by the workers that fit, never by the driver. A worker alone gets all CPUs of one node.
    A training that was killed goes on from its last checkpoint when the same command runs again.

    Args:
        data: Dataset, or synthetic dataset, to fit on.
        model: Model to fit. In closed form: popularity, ease, svd_ae, infinite_ae. Trained by gradients: bias,
            mf, neumf, mvae, svae, sasrec, gru4rec, lightgcn. On synthetic users: infinite_ae, ease, mf, mvae; on
            synthetic sequences: sasrec, gru4rec. Or your own, as package.module:Class.
        output: Folder or storage URI for the fitted model.
        set: Settings of the model, such as lam=5; `das settings MODEL` lists them. Default: {}.
        solver: Solver of infinite_ae: exact (memory for users × users), pcg (the same answer with less memory),
            nystrom (an approximation by landmarks), or auto, which chooses by users, items, memory and workers
            and says why. Default: auto.
        workers: Number of workers that fit together, each on its own shards (for models trained by gradients, and
            for infinite_ae with solver pcg or nystrom). Default: 1.
        gpu: Fit on a GPU of the cluster; with several workers, on one GPU each. Default: False.
        checkpoint_every: Steps between checkpoints. Default: one checkpoint after each pass over the rows.
        keep_checkpoints: Number of the newest checkpoints to keep while fitting; all are removed once the model
            is saved. Default: 2.
        overwrite: Replace a model that already exists at --output. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: no dataset, unknown model or setting, too little memory, an output that exists.
    """
@overload
def fit(config: FitConfig, /, **changes: Any) -> FitResult: ...


@overload
def forecast(
    data: Address,
    models: str | Sequence[str] = ['popularity', 'ease', 'svd_ae', 'infinite_ae'],
    *,
    output: Address,
    up_to: float = 0.1,
    rungs: int = 5,
    seeds: int = 2,
    set: dict[str, Any] = {},
    gpu: bool = False,
    time_budget: str | None = None,
    overwrite: bool = False,
    address: str | None = None,
) -> ForecastResult:
    """Forecasts models on all rows from nested samples; see :class:`~distill_at_scale.config.ForecastConfig`.

    Args:
        data: Dataset to forecast.
        models: Models to forecast, such as ease,mf; hyper-parameters are tuned on each sample, by validation.
            Default: ['popularity', 'ease', 'svd_ae', 'infinite_ae'].
        output: Folder or storage URI for the forecast, the samples and the logs.
        up_to: Share of the train rows in the largest sample; the others are halves of it. Default: 0.1.
        rungs: Number of samples of whole users, each with half of the rows of the next. Default: 5.
        seeds: Number of repetitions of everything random, with the seeds 0, 1, … Default: 2.
        set: Settings of models, such as mf.epochs=5; `das settings MODEL` lists them. Default: {}.
        gpu: Use one GPU of the cluster for each model trained by gradients. Default: False.
        time_budget: Stop after this long, such as 90s, 30m or 2h. Finished work is kept; run the same command
            again to continue. Default: None.
        overwrite: Replace a forecast that already exists at --output. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: No dataset, too few users for the rungs, unknown model, an output that holds something else.
    """
@overload
def forecast(config: ForecastConfig, /, **changes: Any) -> ForecastResult: ...


@overload
def genie_train(
    sweeps: Address | Sequence[Address],
    *,
    output: Address,
    kinds: str | Sequence[str] = [],
    judge: bool = False,
    overwrite: bool = False,
    address: str | None = None,
) -> GenieResult:
    """Trains a Data-Genie; see :class:`~distill_at_scale.config.GenieTrainConfig` for the settings.

    Args:
        sweeps: Sweeps, whose datasets must still exist where they were swept; or Data-Genies, whose training data
            are reused.
        output: Folder or storage URI for the Data-Genie.
        kinds: Models to choose from, by their regret on held-out datasets: additive, means, ridge, trees,
            pointwise, pairwise, blend, anchored. Default: all.
        judge: Also hold out each dataset (with all cuts of its log) in turn and measure the advice on it; takes
            minutes. Default: False.
        overwrite: Replace a Data-Genie that already exists at --output. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: no sweep, a dataset that is gone or has changed, too few datasets, an output that exists.
    """
@overload
def genie_train(config: GenieTrainConfig, /, **changes: Any) -> GenieResult: ...


@overload
def inspect(
    data: Address,
    *,
    verify: bool = False,
) -> Dataset:
    """Opens a dataset and, with ``verify``, compares every file with its checksum.

    Args:
        data: Dataset to show.
        verify: Also compare every file with its recorded checksum. Default: False.

    Raises:
        DasError: The dataset is missing or not finished, or a file is missing or altered.
    """
@overload
def inspect(config: InspectConfig, /, **changes: Any) -> Dataset: ...


@overload
def predict(
    data: Address,
    model: Address | Recommender,
    *,
    output: Address,
    users: str = 'all',
    k: int = 20,
    history: Literal['all', 'train+validation', 'train'] = 'all',
    include_seen: bool = False,
    similar_items: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    address: str | None = None,
) -> Predictions:
    """Recommends items to users; see :class:`~distill_at_scale.config.PredictConfig` for the settings.

        das.predict(dataset, "s3://bucket/ease", k=10, output="s3://bucket/lists")

    Lists are ranked exactly as `evaluate` ranks them, equal scores included. A user without rows of the history gets
    what the model gives to strangers. Run again after a kill, the same command keeps the parts that are done.

    Args:
        data: Dataset with the users and their history; the model must have been fitted on it, or have the same
            items.
        model: Folder or storage URI of a fitted model.
        output: Folder or storage URI for the lists: predictions/*.parquet with user_id, item_id, rank and score.
        users: Users who get a list: all, a number of users drawn at random, or a file with their ids (one per
            line, or a column user_id in CSV or Parquet). Default: 'all'.
        k: Number of items per list; fewer if fewer remain. Default: 20.
        history: Rows of a user that are the model's input, and whose items are not recommended again: all,
            train+validation (the lists that `das evaluate` measures on the test rows) or train (those on the
            validation rows). Default: 'all'.
        include_seen: Also recommend items of the history; most models do not learn to score them. Default: False.
        similar_items: Also write the k items most similar to each item (similar_items/*.parquet): those
            recommended to a user with only that item. With --users 0, only these are written. Default: False.
        seed: Random seed of the draw of users. Default: 0.
        overwrite: Replace predictions that already exist at --output. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: no dataset or model, a model of another item numbering, an output that exists, ids none of which is
            in the dataset.
    """
@overload
def predict(config: PredictConfig, /, **changes: Any) -> Predictions: ...


@overload
def prepare(
    input: Address | Sequence[Address],
    *,
    output: Address,
    format: Literal['auto', 'parquet', 'arrow', 'orc', 'csv', 'jsonl', 'inter', 'movielens', 'sequences'] = 'auto',
    delimiter: str | None = None,
    quote: Literal['auto', 'none', '"'] = 'auto',
    columns: str | Sequence[str] | None = None,
    order: Literal['time', 'file'] = 'time',
    map: dict[str, str] = {},
    where: dict[str, list[str]] = {},
    weight: str | None = None,
    event: str | Sequence[str] = [],
    event_column: str | None = None,
    id_type: Literal['auto', 'int', 'string'] = 'auto',
    time_unit: Literal['auto', 's', 'ms', 'us', 'ns', 'days', 'excel', 'ticks', 'iso'] = 'auto',
    time_format: str | None = None,
    split: str = 'leave_2',
    validation_share: float = 0.1,
    test_share: float = 0.1,
    min_rating: float | None = None,
    min_user: int = 1,
    min_item: int = 1,
    duplicates: Literal['last', 'first', 'all'] = 'last',
    max_bad_share: float = 0.01,
    shards: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    address: str | None = None,
) -> Dataset:
    """Makes a Dataset of raw logs; see :class:`~distill_at_scale.config.PrepareConfig` for the settings.

    Args:
        input: Files, folders or globs of the raw log, on local disk, s3:// or any other storage that fsspec
            supports.
        output: Folder or storage URI of the new dataset.
        format: File format; csv covers TSV and every other single-character delimiter, arrow covers Feather; text
            may be compressed with gzip, zstd, bzip2, xz or lz4. Default: 'auto'.
        delimiter: Character between two fields of a csv file, also written as \t or \x01; detected from the first
            lines if not given. Default: None.
        quote: Quoting of fields in csv files; none reads quotes as plain characters, as usual in tab-separated
            logs; auto: none for tab-separated files unless quotes close on their line, otherwise quoted. Default:
            'auto'.
        columns: Column names, in order, for text files without a header line. Default: None.
        order: Order of a user's rows: time, by timestamp; file, for logs without timestamps whose lines are in
            chronological order: files in the order given (those of a folder by name), and lines in their order.
            Default: 'time'.
        map: Mapping from canonical columns to the log's own: user_id=visitor; an empty name (rating=) ignores
            that column. Default: {}.
        where: Filter on a column's values: event=purchase, or event=view,purchase; conditions on several columns
            must all hold. Values are compared as text (5, true). Other rows are dropped and counted. Default: {}.
        weight: Column with each row's numeric weight. Weights become the dataset's ratings, which --min-rating
            filters by and explicit objectives learn; models for implicit feedback count every row equally.
            Default: None.
        event: Kinds of events to read, each with its weight (default 1): view:0.1 purchase:1. Rows of other kinds
            are dropped and counted; weights become ratings, as with --weight. If a user and item have several
            events, --duplicates last keeps the latest, whatever its weight. Default: [].
        event_column: Column with the kind of event. Default: the column with a usual name, such as event,
            event_type, action or behavior.
        id_type: Type of ids, integers or strings; auto: integers if the first rows of every file are. Default:
            'auto'.
        time_unit: Unit of the timestamps: s, ms, us or ns since 1970, days since 1970, excel (days since
            1899-12-30), ticks (of .NET), or iso (ISO 8601 text, or columns of dates); auto: detected from the
            first values of every file; an error if that is ambiguous. A named unit also admits times outside 1995
            to 2035. Default: 'auto'.
        time_format: Format of timestamps that are neither numbers nor ISO 8601, as for strptime: %d/%m/%Y %H:%M
            Default: None.
        split: Rule that divides rows into train, validation and test: leave_2 (each user's last row by time is
            test, the one before it validation), 20_percent_hist (each user's rows, shuffled, 80/10/10), temporal
            (at two points in time, the same for all users), column (by the log's own split column). Default:
            'leave_2'.
        validation_share: Share of the rows that --split temporal gives to validation. Default: 0.1.
        test_share: Share of the rows, the latest ones, that --split temporal gives to test. Default: 0.1.
        min_rating: Drop rows with a lower rating; the remaining ratings count as implicit feedback. Default:
            None.
        min_user: Drop users with fewer rows (repeated with --min-item until both hold). Default: 1.
        min_item: Drop items with fewer rows. Default: 1.
        duplicates: Rows to keep of several with the same user and item: the last by time, the first, or all.
            Default: 'last'.
        max_bad_share: Stop if a larger share of the rows is invalid; otherwise they go to quarantine and are
            counted. Default: 0.01.
        shards: Number of shards. Default: a power of two that gives each about a million rows.
        seed: Random seed of the shuffle of --split 20_percent_hist and of the order of a user's rows with the
            same time. Default: 0.
        overwrite: Replace a dataset that already exists at --output. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: bad settings, unreadable input, too many bad rows, no rows left, an output that exists.
    """
@overload
def prepare(config: PrepareConfig, /, **changes: Any) -> Dataset: ...


@overload
def quickstart(
    name: str = 'ml-100k',
    *,
    output: Address = 'das-quickstart',
    address: str | None = None,
) -> Quickstart:
    """Fetches a public log, prepares it, fits every model and evaluates it, tries a few ways of shrinking it and says
    which to take; leaves everything in ``output``.

    Args:
        name: Dataset of the catalogue: ml-100k, ml-1m, ml-20m or amazon-beauty. Default: 'ml-100k'.
        output: Folder for the dataset, the models, the metrics, the sweep and the report. Default: 'das-
            quickstart'.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: when no source of the data can be reached, or a step fails.
    """
@overload
def quickstart(config: QuickstartConfig, /, **changes: Any) -> Quickstart: ...


@overload
def recommend(
    data: Address,
    *,
    keep: float = 0.95,
    sweep: Address | None = None,
    genie: Address | None = None,
    address: str | None = None,
) -> Recommendation:
    """Recommends a method and a budget; see :class:`~distill_at_scale.config.RecommendConfig` for the settings.

    Args:
        data: Dataset to make smaller.
        keep: Share of the full data's ndcg@10 to keep, as a mean over the models. Default: 0.95.
        sweep: Sweep of this dataset: recommend from its measurements, not from what Data-Genie predicts. Default:
            None.
        genie: Data-Genie trained by `das genie train`. Default: the one that comes with the package.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: no dataset, a sweep of another dataset, a Data-Genie of another version.
    """
@overload
def recommend(config: RecommendConfig, /, **changes: Any) -> Recommendation: ...


@overload
def sample(
    data: Address,
    sampler: str | SamplerMethod,
    *,
    budget: str | float | Sequence[str | float],
    output: Address,
    objective: Literal['explicit', 'implicit'] = 'implicit',
    proxy_epochs: int = 50,
    workers: int = 1,
    gpu: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    address: str | None = None,
) -> Samples:
    """Samples a dataset; see :class:`~distill_at_scale.config.SampleConfig` for the settings.

    Args:
        data: Dataset to sample from.
        sampler: Sampler that selects rows: random, stratified, temporal, random_users, head_users, centrality,
            random_walk, forest_fire, density, sensitivity, sensitivity_users; by SVP-CF: svp_bias, svp_bias_prop,
            svp_bias_users, svp_bias_users_prop, svp_mf, svp_mf_prop, svp_mf_users, svp_mf_users_prop. Or your
            own, as package.module:OBJECT.
        budget: Share of the train rows to keep, above 0 and at most 1; several at once, such as 0.5,0.1,0.01.
        output: Folder or storage URI; each sample is written to a folder SAMPLER-BUDGET below it.
        objective: Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also
            for sequential use), or the squared error of its rating (explicit). Default: 'implicit'.
        proxy_epochs: Passes over the train rows by the proxy of svp_*; a row's score is the mean over them.
            Default: 50.
        workers: Number of workers that train the proxy of svp_* together. Default: 1.
        gpu: Train the proxy of svp_* on one GPU per worker. Default: False.
        seed: Random seed. Default: 0.
        overwrite: Replace samples that already exist at --output. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: no dataset, unknown sampler, a budget that leaves nothing, an output that exists.
    """
@overload
def sample(config: SampleConfig, /, **changes: Any) -> Samples: ...


@overload
def sweep(
    data: Address,
    *,
    output: Address,
    methods: str | Sequence[str] = ['all'],
    budgets: str | float | Sequence[str | float] = ['0.01', '0.05', '0.1', '0.5'],
    models: str | Sequence[str] = ['popularity', 'ease', 'svd_ae', 'infinite_ae'],
    seeds: int = 1,
    set: dict[str, Any] = {},
    gpu: bool = False,
    search: int = 0,
    time_budget: str | None = None,
    mlflow: str | None = None,
    overwrite: bool = False,
    address: str | None = None,
) -> SweepResult:
    """Tries methods at budgets with models; see :class:`~distill_at_scale.config.SweepConfig` for the settings.

    A trial that fails is a row with its reason; it is tried again when the same command runs again.

    Args:
        data: Dataset to make smaller.
        output: Folder or storage URI for the trials, the small datasets and the logs.
        methods: Samplers and distillers (sketch, distill_cf, farzi) to try, or all. A distiller's budget is a
            share of the users. Default: ['all'].
        budgets: Shares of the train rows to keep, above 0 and at most 1. Default: ['0.01', '0.05', '0.1', '0.5'].
        models: Two or more models; hyper-parameters are tuned on each dataset, by validation. Default:
            ['popularity', 'ease', 'svd_ae', 'infinite_ae'].
        seeds: Number of repetitions of everything random, with the seeds 0, 1, … Default: 1.
        set: Settings of methods and models, such as distill_cf.steps=100 or mf.epochs=5; `das settings NAME`
            lists them. Default: {}.
        gpu: Use one GPU of the cluster for each model trained by gradients, each proxy of svp_* and each
            distiller. Trials of --search still use CPUs. Default: False.
        search: Before the sweep, try this many settings of each model trained by gradients and of distill_cf on
            the full data's validation rows, and use the best. Settings given by --set are not searched. Needs
            Optuna (extra "search"). Default: 0.
        time_budget: Stop after this long, such as 90s, 30m or 2h. Finished work is kept; run the same command
            again to continue. Default: None.
        mlflow: MLflow server or file to log to as well, such as http://HOST:5000 or sqlite:///mlflow.db (extra
            "mlflow"). TensorBoard logs are always written, to tensorboard/ below --output. Default: None.
        overwrite: Replace a sweep that already exists at --output. Default: False.
        address: Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process
            is connected to, else a local Ray on this machine.

    Raises:
        DasError: no dataset, unknown method or model, an output that holds a sweep of another dataset.
    """
@overload
def sweep(config: SweepConfig, /, **changes: Any) -> SweepResult: ...

__all__ = ["DasError", "Dataset", "SyntheticDataset", "compare", "connect", "distill", "distillers", "doctor", "evaluate", "expand", "export", "fetch", "fit", "forecast", "genie_train", "inspect", "load_model", "models", "predict", "prepare", "quickstart", "recommend", "sample", "samplers", "sweep", "write_report"]
