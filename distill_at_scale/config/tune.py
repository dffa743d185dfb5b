"""Settings of tune, which finds the best model and its settings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from distill_at_scale.config.values import AtCommas, ClusterConfig, Duration, Model


class TuneConfig(ClusterConfig):
    """Finds the best model and its settings: tries many on small samples, the better ones on larger ones, and fits the
    winner on everything."""

    data: str
    """Dataset to tune for; its validation rows choose, its test rows only judge the winner and the runner-up."""
    models: Annotated[list[Model], AtCommas] = Field(default_factory=lambda: ["ease", "svd_ae", "als"], min_length=1)
    """Models to choose from, such as ease,mf,sasrec."""
    search: int = Field(20, ge=1)
    """Number of settings to try of each model. Half are spread over the search space; Optuna (extra "search") proposes
    the others by the results of these, and without it they are spread too."""
    output: str
    """Folder or storage URI for the winner, the result, the samples and the logs."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of models that are not searched, such as mf.epochs=5; `das settings MODEL` lists them."""
    seed: int = Field(0, ge=0, lt=1 << 32)
    """Random seed of the samples and of the settings."""
    gpu: bool = False
    """Use one GPU of the cluster for each model trained by gradients."""
    time_budget: Duration | None = None
    """Stop after this long, such as 90s, 30m or 2h. Finished work is kept; run the same command again to continue."""
    mlflow: str | None = None
    """MLflow server or database to log to as well, such as http://HOST:5000 or sqlite:///mlflow.db (extra "mlflow").
    TensorBoard logs are always written, to tensorboard/ below --output."""
    overwrite: bool = False
    """Replace a search that already exists at --output."""
