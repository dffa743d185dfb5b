"""What Ray raises when a part of the cluster is gone, as one sentence. No other module knows how Ray fails.

Tasks of stages are started again by Ray, and workers of groups by us, so what comes up to a verb could not be mended.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from distill_at_scale.errors import ClusterError, DasError
from distill_at_scale.uris import redact_text

AGAIN = "run the same command again to go on"
"""End of a sentence on what is lost: nothing of what is finished."""

_MEMORY = "a worker was killed since its node ran out of memory; {again} on nodes with more memory"
_LOST = "the cluster lost a node or the driver's connection to it; {again}"
_NODE = "the node that was to do the work is gone; {again}"
# The first class that fits counts: subclasses come before what they are derived from.
_SENTENCES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("OutOfMemoryError",), _MEMORY),
    (("OutOfDiskError",), "a node's disk is full, so Ray's objects do not fit; make room there, then {again}"),
    (("ObjectStoreFullError",), "a node's object store is full; {again} on nodes with more memory"),
    (("AuthenticationError",), "the cluster refused this process's token; set RAY_AUTH_TOKEN_PATH, then {again}"),
    (("RuntimeEnvSetupError",), "a node cannot set up the run's environment: {said}"),
    (
        (
            "TaskUnschedulableError",
            "ActorUnschedulableError",
            "TaskPlacementGroupRemoved",
            "ActorPlacementGroupRemoved",
        ),
        "the node that was to do the work is gone; {again}",
    ),
    (("LocalRayletDiedError",), "Ray on the driver's own node is gone; start it again, then {again}"),
    (("ActorUnavailableError", "RpcError"), "the cluster's head or a node does not answer any more; {again}"),
    (("RayActorError",), "a process of the run died with its node, or was killed; {again}"),
    (("WorkerCrashedError",), "a worker was killed again and again, most likely for want of memory; {again}"),
    (("NodeDiedError", "OwnerDiedError", "ObjectLostError", "GetTimeoutError"), _LOST),
    (("RaySystemError",), "Ray itself failed: {said}; {again}"),
)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns what Ray raises in the block into one sentence.

    Raises:
        ClusterError: a node, the head, a process or memory was lost.
        DasError: the one that a task raised, without Ray's traceback around it.
    """
    try:
        yield
    except Exception as error:
        # What a task raises is wrapped in an error of Ray's that is of the same class, too.
        own = next((one for one in _chain(error) if isinstance(one, DasError) and not hasattr(one, "cause")), None)
        if own is error:
            raise
        if own is not None:
            raise own from error
        sentence = _sentence(error) if "ray" in sys.modules else None
        if sentence is None:
            raise
        raise ClusterError(f"{sentence[0].upper()}{sentence[1:]}.") from error


def _sentence(error: BaseException) -> str | None:
    """The sentence without its full stop; None for what does not mean that something of the cluster is gone."""
    for one in _chain(error):
        names = [kind.__name__ for kind in type(one).__mro__ if kind.__module__.startswith("ray.")]
        for kinds, sentence in _SENTENCES:
            if any(kind in names for kind in kinds):
                return sentence.format(again=AGAIN, said=_brief(one))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what caused it, as far as Ray carries that along."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if any(one is known for known in seen):
            continue
        seen.append(one)
        yield one
        # Of tasks, of Ray Train's controller and of its workers.
        inner = [getattr(one, name, None) for name in ("cause", "controller_failure", "base_exc")]
        inner += [*getattr(one, "worker_failures", {}).values(), one.__cause__]
        waiting += [cause for cause in inner if isinstance(cause, BaseException)]


def _brief(error: BaseException) -> str:
    return redact_text(" ".join(str(error).split())[:200]).rstrip(".")
