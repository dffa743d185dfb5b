"""Optional dependencies: what to say where one is missing."""

from __future__ import annotations

from distill_at_scale.errors import DasError

DISTRIBUTION = "distill-at-scale"


def install(extra: str) -> str:
    """The command that installs an extra of ``pyproject.toml``."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def missing(what: str, package: str, extra: str) -> DasError:
    """The error for a feature whose package is not installed.

    Args:
        what: The feature, as an option or a verb.
        package: The name of the package.
        extra: The extra of ``pyproject.toml`` that brings it.
    """
    return DasError(f"{what} needs {package}, which is not installed: {install(extra)}.")
