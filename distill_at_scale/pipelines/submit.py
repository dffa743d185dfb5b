"""submit: a verb as a job of a cluster, by the jobs API of Ray's dashboard; its log is followed here.

The job gets this process's package, the code of plugins that it was told to use, and where storage is; never
credentials: nodes have their own. Its settings travel as a file, so that the list of jobs shows none of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import socket
import sys
import tempfile
import time
import uuid
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

import distill_at_scale
from distill_at_scale import logs
from distill_at_scale.config import SubmitConfig
from distill_at_scale.config.submit import JOB_VERBS
from distill_at_scale.errors import ClusterError
from distill_at_scale.lookup import ALLOWED
from distill_at_scale.pipelines.runtime import plugins, progress
from distill_at_scale.pipelines.runtime.jobs import Dashboard
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.registry import OUTSIDE_VERBS

_LOG = logging.getLogger(__name__)
_SETTINGS = "settings.yaml"
# Where storage is and which plugins a file may name: what a job needs of this process's environment.
_TRAVEL = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", ALLOWED)
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
# Nodes must have been started with these; a job cannot change them.
_OF_THE_NODES = ("ray", "torch")
# Ray asks the driver to end, and kills it after a few seconds.
_STOPS_WITHIN_S = 15.0


class Job(BaseModel):
    """A job of a cluster, and how it ended."""

    job: str
    """Id, as `ray job` takes it."""
    verb: str
    address: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    exit_code: int | None
    """Exit code of the verb; None while it runs."""


@verb(SubmitConfig, "verb")
def submit(config: SubmitConfig) -> Job:
    """Runs a verb as a job and prints its log; see :class:`~distill_at_scale.config.SubmitConfig` for the settings.

        das.submit("prepare", settings={"input": ["s3://bucket/log"], "output": "s3://bucket/data"})

    An interruption stops the job.

    Raises:
        ClusterError: No dashboard answers at the address, it refuses the token, or the cluster lost the job.
    """
    dashboard = Dashboard(config.address)
    _warn_of_local_paths(config, dashboard)
    kept = [name for name in _SECRETS if os.environ.get(name)]
    if kept and "s3://" in str(config.settings):
        _LOG.info("Credentials stay here (%s): the cluster's nodes use their own.", ", ".join(kept))
    # An id of our own, so that a job can be stopped whose submission was interrupted.
    job = f"das-{re.sub(r'[^A-Za-z0-9_.-]', '-', config.verb)}-{uuid.uuid4().hex[:10]}"
    try:
        with tempfile.TemporaryDirectory(prefix="das-job-") as folder:
            Path(folder, _SETTINGS).write_text(yaml.safe_dump(config.settings, sort_keys=False, allow_unicode=True))
            dashboard.submit(
                job, shlex.join(command_of(config)), runtime_env(folder, config.install), f"das {config.verb}"
            )
        if config.no_wait:
            progress.say(f"follow the job by: ray job logs --address {config.address} --follow {job}")
            return Job(job=job, verb=config.verb, address=config.address, status="PENDING", exit_code=None)
        progress.say(f"job {job} is submitted to {config.address}; Ctrl-C stops it.")
        dashboard.follow(job, _print)
        status, exit_code, message = dashboard.ended(job)
    except KeyboardInterrupt:
        _stop(dashboard, job)
        raise
    if status == "FAILED" and exit_code is None:
        raise ClusterError(f"The job {job} did not run: {message}")
    if status == "STOPPED":
        raise ClusterError(f"The job {job} was stopped; run the same command again to go on.")
    return Job(job=job, verb=config.verb, address=config.address, status=status, exit_code=exit_code)


def command_of(config: SubmitConfig) -> list[str]:
    """Returns the command of the job, which reads its settings from a file."""
    # A verb of another package is called by its spec, which needs only the code there, not the entry point.
    words = config.verb.split() if config.verb in JOB_VERBS else [OUTSIDE_VERBS.spec(config.verb)]
    flags = [f"--{flag}" for flag in config.flags]
    return ["python", "-m", "distill_at_scale", *words, "--config", _SETTINGS, *flags]


def runtime_env(folder: str, install: bool = False) -> dict[str, Any]:
    """Returns Ray's runtime environment of a job.

    Args:
        folder: Working directory of the job; it is uploaded.
        install: Whether the cluster installs the package's dependencies.
    """
    package = str(Path(distill_at_scale.__file__).parent)
    env: dict[str, Any] = {
        "working_dir": folder,
        "py_modules": [package, *plugins.folders()],
        "excludes": ["__pycache__", "*.pyc"],
        "env_vars": {
            "RAY_USAGE_STATS_ENABLED": "0",
            **{name: os.environ[name] for name in _TRAVEL if os.environ.get(name)},
        },
    }
    if install:
        env["pip"] = {"packages": tested_versions(), "pip_check": False}
    return env


def tested_versions() -> list[str]:
    """Returns the package's dependencies in the versions that are tested, except those that nodes must have."""
    lines = files(distill_at_scale).joinpath("constraints.txt").read_text().splitlines()
    pins = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [pin for pin in pins if pin.partition("==")[0] not in _OF_THE_NODES]


def _warn_of_local_paths(config: SubmitConfig, dashboard: Dashboard) -> None:
    found: list[str] = []
    for value in config.settings.values():
        found += [one for one in (value if isinstance(value, list) else [value]) if str(one).startswith("/")]
    others = dashboard.hosts() - {socket.gethostname()}
    if found and others:
        _LOG.warning(
            "%s: a path on this machine, which %s sees only if it is a shared mount; else put it on storage that all "
            "nodes reach, as s3://bucket/….",
            ", ".join(map(str, found)),
            "the cluster" if len(others) > 1 else f"the cluster's node {min(others)}",
        )


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _stop(dashboard: Dashboard, job: str) -> None:
    """Stops a job, and waits until it has ended."""
    with contextlib.suppress(ClusterError), logs.shown_by_default():
        dashboard.stop(job)
        _LOG.warning("The job %s is being stopped.", job)
        deadline = time.monotonic() + _STOPS_WITHIN_S
        while time.monotonic() < deadline and not dashboard.has_ended(job):
            time.sleep(0.2)
