"""Several connected workers on Ray Train.

In its own file, since loading Ray Train takes a second, which a single worker is spared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from distill_at_scale import signals
from distill_at_scale.data import storage
from distill_at_scale.errors import ClusterError

# How often Ray Train looks whether there is room for more workers, in seconds: a resize costs a restart.
_RESIZE_S = 60.0
# Time limit for workers to end after an interruption, in seconds.
_ABORT_S = 10.0
_NOTES = "ray-train"


def run_several(
    on_worker: Callable[[dict[str, Any]], None],
    loop: object,
    work: str,
    *,
    workers: int | tuple[int, int],
    cpus: int,
    gpu: bool,
    deaths: int,
) -> str:
    """Runs a group on Ray Train. Returns the reason if its workers died too often, else "".

    Args:
        on_worker: What each worker runs, with ``loop`` under this name.
        work: Folder of the run.
        workers: Number of workers, or the least and the most.
        cpus: CPUs of each.
        gpu: Whether each has a GPU.
        deaths: Number of workers' deaths that the run survives.
    """
    # On the output's storage, which all nodes see. What Ray Train keeps there is nothing that we go on from.
    notes = storage.join(work, _NOTES)
    storage.remove(notes)
    filesystem, path = storage.arrow_filesystem(notes)
    # Ray's types know only its older trainer.
    scaling: dict[str, Any] = {
        "num_workers": workers,
        "elastic_resize_monitor_interval_s": _RESIZE_S,
        "use_gpu": gpu,
        "resources_per_worker": {"CPU": cpus, **({"GPU": 1} if gpu else {})},
    }
    trainer = _Trainer(
        on_worker,
        train_loop_config={"loop": loop},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(**scaling),
        run_config=ray.train.RunConfig(
            name="das",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=deaths),
        ),
    )
    try:
        with signals.kept():
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        return str(error)
    return ""


class _Trainer(TorchTrainer):
    """Trainer that stops its workers on an interruption and raises.

    Ray Train installs a SIGINT handler that it never removes and that exits with 0. The overridden method is private to
    Ray Train: tests/system/test_terminal.py tests it by interrupting a fit with two workers.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        self._controller = controller

    def fit(self) -> ray.train.Result:
        try:
            return super().fit()
        except (KeyboardInterrupt, ClusterError):
            with contextlib.suppress(AttributeError, ray.exceptions.RayError):
                ray.get(self._controller.abort.remote(), timeout=_ABORT_S)
            raise
