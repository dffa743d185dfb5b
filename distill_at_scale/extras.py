"""Optional dependencies: messages for missing ones."""

from __future__ import annotations

from distill_at_scale.errors import DasError

DISTRIBUTION = "distill-at-scale"


def install(extra: str) -> str:
    """Returns the command that installs an extra of ``pyproject.toml``."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def missing(what: str, package: str, extra: str) -> DasError:
    """Returns the error for a feature whose package is not installed.

    Args:
        what: Feature, such as an option or a verb.
        package: Name of the package.
        extra: Extra of ``pyproject.toml`` that includes it.
    """
    return DasError(f"{what} needs {package}, which is not installed: {install(extra)}.")
