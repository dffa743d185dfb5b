"""Optional dependencies: messages for missing ones."""

from __future__ import annotations

from importlib.util import find_spec

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


def require(what: str, package: str, module: str, extra: str) -> None:
    """Refuses a feature whose package is not installed, without loading it.

    Args:
        what, package, extra: As :func:`missing`.
        module: Module of the package.

    Raises:
        DasError: It is not installed.
    """
    if find_spec(module) is None:
        raise missing(what, package, extra)
