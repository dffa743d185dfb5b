"""The Ray session of a verb: a cluster that is there already, or one on this machine for as long as needed."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from distill_at_scale import signals
from distill_at_scale.data import storage
from distill_at_scale.data.storage_patience import DEFAULT_PATIENCE_S, PATIENCE
from distill_at_scale.errors import ClusterError
from distill_at_scale.models.memory import available_memory
from distill_at_scale.pipelines.runtime import knock, plugins, progress, versions

# Of workers, never of the process that connects, which is the user's own. One thread a task: Ray runs as many tasks as
# there are cores. Read when the libraries are first imported. And where a task has several, those that wait give their
# core away instead of turning on it: on a machine with other work that is the difference between a fit and several.
_WORKER_ENV = {"POLARS_MAX_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
# Ray's node dies when its agents have not answered in 15 seconds, as on a busy machine; Ray notices after 30. Neither
# can be set, so the start is tried again.
_STARTS = 3
# What Ray says of a process that it starts for each client (ray://), for which it waits half a minute.
_CLIENT_LATE = "Starting Ray client server failed"
_BUSY_AFTER_S = 30.0
_ABANDON_S = 5.0
# What a session on this machine keeps for objects, at least and at most, and of free memory in between: counts and item
# ids, and for learned samplers 128 bytes an item from each of some tasks. What does not fit goes to disk.
_LEAST_STORE, _MOST_STORE, _STORE_OF_FREE = 512 << 20, 2 << 30, 0.1
_CLIENT = (
    "connected by Ray Client: verbs run as drivers on the cluster, so what they read and write must be visible there; "
    "Dataset.from_ray and Dataset.to_ray cannot be had."
)


@contextlib.contextmanager
def ensure(address: str | None = None, num_cpus: int | None = None) -> Iterator[None]:
    """Connects to Ray for a block; a session that this block started ends with it, any other stays.

    Args:
        address: Address of an existing cluster (``auto``, ``host:port``, ``ray://…``); None joins the session that is
            already there (inside a job, a notebook, a test) and else starts one on this machine.
        num_cpus: CPUs of a session started here (default: all).

    Raises:
        ClusterError: when the cluster cannot be reached, or Ray does not start.
    """
    global _left
    there = is_connected()
    connect(address, num_cpus)
    import ray

    if not there:
        _left = []
    try:
        plugins.require_on_nodes()
        yield
    finally:
        if there:
            while _left:
                ray.cancel(_left.pop())
        else:
            _left = None
            if not _is_abandoned:
                ray.shutdown()


_left: list[Any] | None = None
"""Tasks to cancel if the session goes on; None where none ends with its block."""


def cancel(tasks: Iterable[Any]) -> None:
    """Cancels tasks of a stage that has failed; in a session that ends with its block, where the block goes on.

    A worker that is cancelled in the middle of an import ends, of which Ray writes a long line to standard output.
    Where the failure ends the session as well, nobody needs it.
    """
    for task in tasks:
        if _left is not None:
            _left.append(task)
        else:
            import ray

            ray.cancel(task)


def connect(
    address: str | None = None, num_cpus: int | None = None, runtime_env: Mapping[str, Any] | None = None
) -> None:
    """Connects to Ray for good: every verb that this process calls afterwards uses that session.

    For notebooks and scripts that call several verbs, each of which would start Ray and end it again. The session ends
    with the process, or by ``ray.shutdown()``; one that is there already stays as it is.

    Args:
        address, num_cpus: as :func:`ensure` has them.
        runtime_env: Ray's runtime environment of the workers; ships models, samplers and distillers of one's own to a
            cluster: ``{"py_modules": ["folder/mypackage"]}`` or ``{"pip": ["mypackage"]}``.

    Raises:
        ClusterError: when the cluster cannot be reached or has other versions of Python, Ray or PyTorch than this
            process, or Ray does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # As it is imported in a notebook, it would tell of widgets that could be installed.
    logging.getLogger("ray.widgets").setLevel(logging.WARNING)
    import ray

    if ray.is_initialized():
        return
    given = dict(runtime_env or {})
    env: dict[str, Any] = {**given, "env_vars": {**_worker_env(), **given.get("env_vars", {})}}
    # Inside a job the cluster is named by RAY_ADDRESS, and the job's working directory holds the package.
    joining = address is not None or "RAY_ADDRESS" in os.environ
    if joining and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        package = str(Path(__file__).parents[2])
        env["py_modules"] = list(dict.fromkeys([*given.get("py_modules", ()), *plugins.folders(), package]))
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if joining:
        _join(options | {"address": address, "runtime_env": env}, address or os.environ.get("RAY_ADDRESS", ""))
        if is_client():
            progress.say(_CLIENT)
    else:
        # Ray would run its workers at nice 15, behind everything else on the machine.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # A process per fit that looks out for spot machines being taken away, of which this is none.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        store = min(max(int(_STORE_OF_FREE * available_memory()), _LEAST_STORE), _MOST_STORE)
        local = {"address": "local", "include_dashboard": False, "object_store_memory": store}
        _start(options | local | {"num_cpus": num_cpus} | ({"runtime_env": given} if given else {}))


def _worker_env() -> dict[str, str]:
    # A driver finds a wrong address of a storage server out before it starts workers: they wait from the first request.
    return {**_WORKER_ENV, PATIENCE: os.environ.get(PATIENCE) or f"{DEFAULT_PATIENCE_S:g}"}


def is_joining(address: str | None = None) -> bool:
    """Whether :func:`connect` uses a session that is there, or joins a cluster; else it starts Ray on this machine."""
    return is_connected() or address is not None or "RAY_ADDRESS" in os.environ


def is_client() -> bool:
    """Whether this process is connected by Ray Client (``ray://``): it starts tasks and actors, but is not a driver."""
    return is_connected() and bool(sys.modules["ray"].util.client.ray.is_connected())


_is_abandoned = False


def abandon() -> None:
    """Ends a session whose head is gone; not every part of Ray notices that, so it gets a few seconds for it."""
    global _is_abandoned
    import ray

    _is_abandoned = True
    ending = threading.Thread(target=ray.shutdown, daemon=True)
    ending.start()
    ending.join(_ABANDON_S)
    _is_abandoned = ending.is_alive()


def is_worker() -> bool:
    """Whether this process is one of Ray's workers."""
    if not is_connected() or is_client():
        return False
    import ray

    return bool(ray.get_runtime_context().worker.mode == ray.WORKER_MODE)


_acts_for_client = False


def act_for_client() -> None:
    """Makes this worker the driver of verbs that somebody calls through Ray Client."""
    global _acts_for_client
    _acts_for_client = True


def is_driver() -> bool:
    """Whether the verbs of this process are a user's own, not parts of another verb that runs as a task."""
    return _acts_for_client or not is_worker()


def require_driver(what: str) -> None:
    """Refuses what needs Ray Data in this very process.

    Raises:
        ClusterError: where it is connected by Ray Client.
    """
    if is_client():
        raise ClusterError(
            f"{what} needs Ray Data, which has no support for Ray Client (ray://); run the script on the cluster by "
            "`ray job submit`, or connect there by das.connect('auto')."
        )


def is_connected() -> bool:
    """Whether this process has a session."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _join(options: dict[str, Any], address: str) -> None:
    where = f"the Ray cluster at {storage.redact(address)}"
    progress.say(f"connecting to Ray at {storage.redact(address)}…")
    if refusal := knock.refusal(address):
        raise ClusterError(f"{where[0].upper()}{where[1:]} cannot be joined: {refusal}")
    for left in reversed(range(_STARTS)):
        try:
            _init(options)
            break
        except Exception as error:
            if sentence := versions.refused(where, str(error)):
                raise ClusterError(f"{sentence[0].upper()}{sentence[1:]}; {versions.FIX}.") from error
            if not (left and _CLIENT_LATE in str(error)):
                raise ClusterError(
                    f"{where} cannot be reached: {_words(error)} Run `das doctor` for the fix."
                ) from error
            progress.say(
                "the cluster has started no process for this client yet, perhaps since it is busy; trying again…"
            )
    try:
        versions.require_alike(where)
    except BaseException:
        import ray

        ray.shutdown()
        raise


def _start(options: dict[str, Any]) -> None:
    """Starts Ray on this machine; again where that took too long, as on a busy machine."""
    progress.say("starting Ray…")
    for left in reversed(range(_STARTS)):
        begun = time.monotonic()
        busy = threading.Timer(_BUSY_AFTER_S, progress.say, ["this machine is busy: Ray is still starting…"])
        busy.daemon = True
        busy.start()
        try:
            # Workers have the environment that Ray is started in.
            with environment(_worker_env()):
                _init(options)
            return
        except Exception as error:  # Ray raises this very class when it has not started in time
            late = "timed out" in str(error) or time.monotonic() - begun >= _BUSY_AFTER_S
            if not (late and left):
                raise ClusterError(
                    f"Ray cannot be started on this machine: {_words(error)} The machine may be too busy; try again "
                    "later, or run `das doctor` for the fix."
                ) from error
            progress.say("Ray has not started, perhaps since this machine is busy; trying again…")
        finally:
            busy.cancel()


def _init(options: dict[str, Any]) -> None:
    """``ray.init``, of which nothing is left if it does not succeed."""
    import ray

    before = set(_children())
    try:
        with _unhandled_sigterm(), signals.kept():
            ray.init(**options)
    except BaseException:
        ray.shutdown()
        # Processes that Ray had started when it failed are not yet a session that a shutdown would end.
        started = [child for child in _children() if child not in before]
        for child in list(started):
            with contextlib.suppress(psutil.Error):
                started += child.children(recursive=True)
        for child in started:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(started, timeout=5)
        raise


def _children() -> list[psutil.Process]:
    """Ray's own processes among the children of this one."""
    import ray

    found, home = [], str(Path(ray.__file__).parent)
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(home in word for word in child.cmdline()):
                found.append(child)
    return found


@contextlib.contextmanager
def _unhandled_sigterm() -> Iterator[None]:
    """Keeps ``ray.init`` from handling SIGTERM, on which it would wait for half a minute and exit with 1.

    Only where the process handles it itself. This is private to Ray: tests/system/test_terminal.py sends a SIGTERM.
    """
    import ray._private.utils as utils

    theirs = utils.set_sigterm_handler
    if signals.handled():
        utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = theirs


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for a block: processes that it starts have them, and keep them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _words(error: Exception) -> str:
    """An exception of Ray's in one short line that ends like a sentence."""
    text = storage.redact(" ".join(str(error).split())[:300]) or type(error).__name__
    return text if text.endswith(".") else text + "."


def ray_data() -> ModuleType:
    """Ray Data, whose own notes stay out of our output; its warnings stay in.

    Loading it takes more than a second, with pandas: what starts no pipeline is spared that.
    """
    import ray.data

    # Not before it is loaded: it sets up its loggers then.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It warns that there are no bars, which is what we ask for.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    # It warns that the items of a stage are Python objects, while the live line is on the screen.
    logging.getLogger("ray.data._internal.tensor_extensions.arrow").setLevel(logging.ERROR)
    return ray.data
