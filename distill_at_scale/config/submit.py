"""Settings of submit, which runs another verb as a job of a cluster."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from distill_at_scale.config.values import Verb
from distill_at_scale.registry import OUTSIDE_VERBS
from distill_at_scale.uris import check
from distill_at_scale.validation import OneOf

JOB_VERBS = (
    "quickstart",
    "fetch",
    "prepare",
    "inspect",
    "fit",
    "forecast",
    "tune",
    "evaluate",
    "predict",
    "sample",
    "attribute",
    "distill",
    "forget",
    "export",
    "expand",
    "compare",
    "sweep",
    "report",
    "recommend",
    "genie train",
    "doctor",
)
"""Verbs of das that can run as a job; those of other packages can, too."""


def job_verbs() -> tuple[str, ...]:
    """Returns the names of all verbs that can run as a job."""
    return (*JOB_VERBS, *(name for name in OUTSIDE_VERBS if name not in JOB_VERBS))


class SubmitConfig(Verb):
    """Runs a verb as a job of a Ray cluster and follows its log: das submit --address http://HOST:8265 VERB OPTIONS…"""

    verb: Annotated[str, OneOf(job_verbs, OUTSIDE_VERBS.find)]
    """Verb to run, of das or of another package. Its own options follow it; those of submit come first."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the verb, such as data=s3://bucket/data; on the command line the verb's own options replace them."""
    flags: list[Annotated[str, OneOf(lambda: ("json", "quiet", "verbose"))]] = Field(default_factory=list)
    """Common options of the verb's command; on the command line they may follow the verb, too."""
    address: str = "http://127.0.0.1:8265"
    """Address of the cluster's dashboard; by default the one that `ray dashboard` and `kubectl port-forward` open."""
    no_wait: bool = False
    """Print the job's id and return. Otherwise Ctrl-C stops the job, and the exit code is that of the job."""
    install: bool = False
    """Install the package's dependencies on the cluster first, in the tested versions, except Ray and PyTorch."""

    @field_validator("settings")
    @classmethod
    def _say_no_password(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Rejects addresses with a user name or password, that of MLflow too: the cluster keeps a job's settings."""
        for value in settings.values():
            for text in value if isinstance(value, list | tuple) else [value]:
                if isinstance(text, str):
                    check(text)
        return settings

    @field_validator("address")
    @classmethod
    def _is_a_dashboard(cls, address: str) -> str:
        """Rejects addresses of Ray itself, and removes a slash at the end."""
        if not address.startswith(("http://", "https://")):
            raise ValueError(f"'{address}' is not the address of a dashboard, such as http://HOST:8265")
        return address.rstrip("/")
