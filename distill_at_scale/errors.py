"""The exceptions users meet: one sentence that names what is wrong, where, and how to fix it."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError


class DasError(Exception):
    """One clear sentence for the user; every face prints it alone and exits with 1 (2 for a SettingError).

    Anything else that reaches a face is a bug and keeps its traceback.
    """


class SettingError(DasError):
    """A setting that is unknown, missing or wrong: a mistake in how a verb was called; faces exit with 2."""


class StorageError(DasError):
    """The storage cannot be reached, refuses, or does not hold what was asked for."""


class DamagedFileError(StorageError):
    """A file that this project wrote is missing, truncated, or differs from its recorded digest."""


class OutputExistsError(DasError):
    """The output holds something that must not be replaced without being asked to."""


class NotEnoughMemoryError(DasError):
    """The work would not fit into the memory there is; refused before it starts."""


class ClusterError(DasError):
    """The Ray cluster cannot be reached, or has not what was asked for."""


class BudgetError(DasError):
    """A budget that leaves no rows.

    Attributes:
        budget: share of the train rows.
    """

    def __init__(self, budget: float, reason: str) -> None:
        super().__init__(f"budget {budget:g} leaves no rows: {reason}")
        self.budget = budget


def wrong_setting(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """(name of the setting, what is wrong with it, without a full stop) of the first problem that pydantic found."""
    # A misspelt setting also counts as missing under its right name: the misspelling is the news.
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields)) or "none"
        return field, f"unknown setting '{field}'; the settings are: {known}"
    if first["type"] == "missing":
        info = model.model_fields.get(field)
        return field, f"setting '{field}' is missing ({(info.description if info else None) or 'see --help'})"
    reason = first["msg"].removeprefix("Value error, ")
    return field, f"setting '{field}': {reason}" if field else reason
