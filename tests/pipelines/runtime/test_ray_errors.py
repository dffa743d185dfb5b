"""What Ray raises when a part of the cluster is gone is one sentence; a bug keeps its traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import ray
import ray.exceptions as raised
from ray.train import TrainingFailedError

from distill_at_scale.errors import ClusterError, SettingError
from distill_at_scale.pipelines.runtime.ray_errors import explained


class Actor:
    def work(self) -> None:
        os._exit(1)


def lose_an_actor() -> None:
    actor: Any = ray.remote(num_cpus=0)(Actor).remote()
    ray.get(actor.work.remote())


def lose_a_worker() -> None:
    ray.get(ray.remote(num_cpus=0, max_retries=0)(lambda: os._exit(1)).remote())


def fail_by_setting() -> None:
    def wrong() -> None:
        raise SettingError("lam must be above 0.")

    ray.get(ray.remote(num_cpus=0)(wrong).remote())


@pytest.mark.parametrize(
    ("lose", "says"),
    [(lose_an_actor, "A process of the run died"), (lose_a_worker, "A worker was killed again and again")],
)
def test_what_was_killed_is_one_sentence(ray_session: None, lose: Callable[[], None], says: str) -> None:
    with pytest.raises(ClusterError) as error, explained():
        lose()
    assert str(error.value).startswith(says)
    assert str(error.value).endswith("; run the same command again to go on.")
    assert "\n" not in str(error.value)


def test_a_tasks_own_sentence_stays(ray_session: None) -> None:
    with pytest.raises(SettingError) as error, explained():
        fail_by_setting()
    assert str(error.value) == "lam must be above 0."


def in_train(inner: Exception) -> Exception:
    outer = TrainingFailedError("Training failed due to controller error")
    outer.controller_failure = inner  # type: ignore[attr-defined]
    return outer


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (raised.OutOfMemoryError("killed"), "A worker was killed since its node ran out of memory"),
        (raised.OutOfDiskError("full"), "A node's disk is full"),
        (raised.ActorUnavailableError("no answer", None), "The cluster's head or a node does not answer any more"),
        (raised.RpcError("UNAVAILABLE"), "The cluster's head or a node does not answer any more"),
        (raised.LocalRayletDiedError(), "Ray on the driver's own node is gone"),
        (raised.NodeDiedError("gone"), "The cluster lost a node"),
        (raised.OwnerDiedError("00" * 28, None, ""), "The cluster lost a node"),
        (raised.ObjectReconstructionFailedError("00" * 28), "The cluster lost a node"),
        (raised.TaskUnschedulableError("gone"), "The node that was to do the work is gone"),
        (in_train(raised.NodeDiedError("gone")), "The cluster lost a node"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_kind_has_its_sentence(error: Exception, says: str) -> None:
    with pytest.raises(ClusterError) as found, explained():
        raise error
    assert str(found.value).startswith(says)
    assert found.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("a disk"), ConnectionError("somebody else's")])
def test_what_is_not_rays_passes(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), explained():
        raise error
