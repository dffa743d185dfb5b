"""Models, samplers, distillers, metrics, split rules and log formats by name: one table each, which other packages can
extend.

On the command line and in Python, an entry is named in one of three ways: by its name in the tables below, such as
``ease``; by the name of an entry point of an installed package; or by its *spec*, ``package.module:Class`` (for a
sampler, metric, split rule or log format ``package.module:OBJECT``). A built-in name takes precedence, with a warning
on a clash.
Help texts, completion and most processes need only the names, so an entry's module (and torch, for most of them) is
imported on first use. A new built-in entry needs its own file and one line here.

EXTENDING, from outside the package::

    # mypackage/things.py                                base class, or class of the instance:
    class MyModel(Recommender):                          # models.base.Recommender
        name, Config = "my_model", MyConfig              # models.base.ModelConfig: fields, defaults, docstrings
        # memory_needed (classmethod), _fit(train, validation, progress), _score(histories) -> [b, n_items],
        # _weights() -> {name: array}, _set_weights(weights, n_items); learns_from_rows with _fit_rows
    MY_SAMPLER = Sampler("my_sampler", score)            # samplers.sampler.Sampler; score(rows, seed) -> Scores
    class MyDistiller(Distiller):                        # distillation.distiller.Distiller
        name, Config, makes = "my_distiller", MyConfig, "rows"       # or "sequences"; Config has users, seed, metric
        # memory(dataset, workers) -> bytes, run(job) -> Distilled
    MY_METRIC = RankingMetric(lambda r: r.n_hits / r.k)  # evaluation.metrics.RankingMetric; Ranked -> [b]
    MY_RULE = Split(assign, by_time=True)                # data.splits.Split; SplitRows -> int8 codes
    class Mine(LineFormat):                              # data.readers.line_format.LineFormat; also .text_format's
        name, names = "mine", ("user_id", "item_id")     # TextFormat and .table_format's TableFormat
        # fields(line) -> its fields, or None; endings, or recognises(file, start) -> bool
    MY_FORMAT = Mine()

    das fit --model mypackage.things:MyModel …           das sample --sampler mypackage.things:MY_SAMPLER …
    das distill --method mypackage.things:MyDistiller …  das prepare --split mypackage.things:MY_RULE …
    das fit --model ease --set metric=mypackage.things:MY_METRIC@10 …
    das prepare --format mypackage.things:MY_FORMAT …

    [project.entry-points."distill_at_scale.models"]     # likewise .samplers .distillers .metrics .splits .formats
    my_model = "mypackage.things:MyModel"                # then: --model my_model; a metric is measured everywhere, and
                                                         # a format recognises its files by itself

How to add a verb of `das` is told in `cli.verbs`.

The code must be on every node: installed, on PYTHONPATH, or shipped (``das.connect(address, runtime_env=…)``). A saved
model of such a class can be loaded if the process has used the class, if it is an entry point, or if ``$DAS_PLUGINS``
or ``load_model(uri, allow=[spec])`` allows it.
"""

from __future__ import annotations

from typing import Any

from distill_at_scale.lookup import ALLOWED, Names, Registry, file_name, is_spec, used

__all__ = [
    "ALLOWED",
    "DISTILLERS",
    "EVERYTHING",
    "EXTENSIBLE",
    "FORMATS",
    "METHODS",
    "METRICS",
    "MODELS",
    "OUTSIDE_VERBS",
    "SAMPLERS",
    "SPLIT_RULES",
    "Names",
    "Registry",
    "file_name",
    "is_spec",
    "used",
]


def _modules(folder: str, **classes: str) -> dict[str, str]:
    """Returns the homes of entries whose classes have a module of their name each."""
    return {name: f"{folder}.{name}:{title}" for name, title in classes.items()}


def _constants(module: str, *names: str) -> dict[str, str]:
    """Returns the homes of entries whose constants in one module have their names in capitals."""
    return {name: f"{module}:{name.upper()}" for name in names}


MODELS: Registry[Any] = Registry(
    "model",
    _modules(
        "models",
        popularity="Popularity",
        ease="Ease",
        svd_ae="SvdAE",
        als="Als",
        elsa="Elsa",
        infinite_ae="InfiniteAE",
        bias="Bias",
        mf="MF",
        neumf="NeuMF",
        mvae="MVAE",
        svae="SVAE",
        sasrec="SASRec",
        gru4rec="GRU4Rec",
        lightgcn="LightGCN",
    ),
    "models.base:Recommender",
    required=("name", "Config"),
    group="distill_at_scale.models",
)

SAMPLERS: Registry[Any] = Registry(
    "sampler",
    {
        **_constants("samplers.row_wise", "random", "stratified", "temporal"),
        **_constants("samplers.user_wise", "random_users", "head_users"),
        **_constants("samplers.graph.centrality", "centrality"),
        **_constants("samplers.graph.random_walk", "random_walk"),
        **_constants("samplers.graph.forest_fire", "forest_fire"),
        **_constants("samplers.svp.variants", "svp_bias", "svp_bias_prop", "svp_bias_users", "svp_bias_users_prop"),
        **_constants("samplers.svp.variants", "svp_mf", "svp_mf_prop", "svp_mf_users", "svp_mf_users_prop"),
        **_constants("samplers.embedding.density", "density"),
        **_constants("samplers.embedding.sensitivity", "sensitivity", "sensitivity_users"),
    },
    "samplers.sampler:Sampler",
    instances=True,
    group="distill_at_scale.samplers",
)

DISTILLERS: Registry[Any] = Registry(
    "distiller",
    _modules(
        "distillation.distillers",
        sketch="SketchDistiller",
        distill_cf="DistillCFDistiller",
        farzi="FarziDistiller",
    ),
    "distillation.distiller:Distiller",
    required=("name", "Config", "makes"),
    group="distill_at_scale.distillers",
)

VERBS: Registry[Any] = Registry(
    "verb",
    {
        "from_frame": "pipelines.workflows.from_memory:from_frame",
        "from_ray": "pipelines.workflows.from_memory:from_ray",
        "to_ray": "pipelines.runtime.memory:read_dataset",
        "sample": "pipelines.sample:sample",
        "distill": "pipelines.distill:distill",
    },
)
"""Verbs that objects of the core offer as methods, such as ``Dataset.from_frame``; they import Ray on first use."""

METRICS: Registry[Any] = Registry(
    "metric",
    _constants("evaluation.metrics", "hr", "recall", "precision", "ndcg", "mrr", "psp"),
    "evaluation.metrics:RankingMetric",
    instances=True,
    group="distill_at_scale.metrics",
)
"""Ranking metrics; each is used at a cut-off, such as ndcg@10."""

SPLIT_RULES: Registry[Any] = Registry(
    "split rule",
    {
        **_constants("data.splits", "leave_2"),
        "20_percent_hist": "data.splits:TWENTY_PERCENT_HIST",
        **_constants("data.splits", "temporal", "column"),
    },
    "data.splits:Split",
    instances=True,
    group="distill_at_scale.splits",
)

FORMATS: Registry[Any] = Registry(
    "log format",
    {
        "parquet": "data.readers.parquet:PARQUET",
        "arrow": "data.readers.arrow_files:ARROW",
        "arrow_stream": "data.readers.arrow_files:ARROW_STREAM",
        "orc": "data.readers.arrow_files:ORC",
        "jsonl": "data.readers.json_lines:JSON_LINES",
        "inter": "data.readers.delimited_formats:INTER",
        "movielens": "data.readers.delimited_formats:MOVIELENS",
        "sequences": "data.readers.sequence_lines:SEQUENCES",
        "csv": "data.readers.delimited_formats:CSV",
    },
    "data.readers.log_format:LogFormat",
    instances=True,
    group="distill_at_scale.formats",
)
"""Formats of raw logs; a file is of the first one that recognises it."""

OUTSIDE_VERBS: Registry[Any] = Registry("verb", {}, "cli.verbs:Verb", instances=True, group="distill_at_scale.verbs")
"""Verbs that other packages add to `das`."""

FIGURES: Registry[Any] = Registry(
    "figure",
    {"Comparison": "report.comparison:comparison_svg", "ForecastResult": "report.forecasts:forecast_svg"},
)
"""Class of a verb's result → function that draws it as SVG, for notebooks."""

VERB_SETTINGS: Registry[Any] = Registry("verb", {"sample": "config:SampleConfig", "distill": "config:DistillConfig"})
"""Settings of the verbs whose signatures the core shows, importable without Ray."""

METHODS = Names(SAMPLERS, DISTILLERS)
"""Names of all methods that make small datasets."""

EVERYTHING = Names(MODELS, SAMPLERS, DISTILLERS)
"""Names of everything that has settings."""

EXTENSIBLE = Names(MODELS, SAMPLERS, DISTILLERS, METRICS, SPLIT_RULES, FORMATS, OUTSIDE_VERBS)
"""Names of everything that other packages can add."""
