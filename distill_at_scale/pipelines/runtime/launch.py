"""Where all verbs pass: a verb's function runs in this process, or as a driver on the cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from pydantic import BaseModel

from distill_at_scale.config.values import ClusterConfig
from distill_at_scale.pipelines.runtime import head_watch, local_paths, ray_errors, remote_driver, session, waiting

R = TypeVar("R")
_is_inside = ContextVar("_is_inside", default=False)
"""Whether this is a verb that another one calls, which has done what is needed for both."""


def launch(function: Callable[..., R], config: BaseModel, **held: Any) -> R:
    """``function(config, **held)``, on the cluster where this process is connected to it by Ray Client.

    Args:
        function: A module's function; the cluster imports it by its name.
        config: Its settings; a verb without an ``address`` needs no cluster, and runs here.
        held: Objects in memory, as a fitted model; picklable.

    Raises:
        ClusterError: local paths that a node does not see; a cluster that is gone.
    """
    if not isinstance(config, ClusterConfig) or _is_inside.get():
        return function(config, **held)
    token = _is_inside.set(True)
    try:
        with ray_errors.explained(), waiting.patience(config.wait_for_nodes):
            if remote_driver.is_needed(config.address):
                return remote_driver.run(launch, function, config, held)
            if not session.is_joining(config.address):
                return function(config, **held)
            with session.ensure(config.address):
                if not session.is_driver():
                    return function(config, **held)
                with head_watch.watched(), local_paths.visible(config):
                    return function(config, **held)
    finally:
        _is_inside.reset(token)
