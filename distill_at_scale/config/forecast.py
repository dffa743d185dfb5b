"""Settings of forecast, which extrapolates learning curves."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from distill_at_scale.config.values import AtCommas, ClusterConfig, Duration, Model


class ForecastConfig(ClusterConfig):
    """Forecasts models on all rows from small nested samples: quality, the rows that are enough, and the cost of a full
    fit, with intervals."""

    data: str
    """Dataset to forecast."""
    models: Annotated[list[Model], AtCommas] = Field(
        default_factory=lambda: ["popularity", "ease", "svd_ae", "infinite_ae"], min_length=1
    )
    """Models to forecast, such as ease,mf; hyper-parameters are tuned on each sample, by validation."""
    up_to: float = Field(0.1, gt=0, le=1)
    """Share of the train rows in the largest sample, in which the others lie."""
    rungs: int = Field(3, ge=3, le=12)
    """Number of samples of whole users, each with a quarter of the rows of the next, and the one before the largest
    with a sixteenth; with two fifths or half, and its square, where the smallest would have too few users."""
    seeds: int = Field(1, ge=1)
    """Number of repetitions of everything random, with the seeds 0, 1, …; two or more measure what samples vary by."""
    output: str
    """Folder or storage URI for the forecast, the samples and the logs."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of models, such as mf.epochs=5; `das settings MODEL` lists them."""
    gpu: bool = False
    """Use one GPU of the cluster for each model trained by gradients."""
    time_budget: Duration | None = None
    """Stop after this long, such as 90s, 30m or 2h. Finished work is kept; run the same command again to continue."""
    mlflow: str | None = None
    """MLflow server or database to log to as well, such as http://HOST:5000 or sqlite:///mlflow.db (extra "mlflow").
    TensorBoard logs are always written, to tensorboard/ below --output."""
    overwrite: bool = False
    """Replace a forecast that already exists at --output."""
