"""The exceptions of the package. Messages are one sentence that names the problem, its location, and the fix."""

from __future__ import annotations

from distill_at_scale.uris import redact_text


class DasError(Exception):
    """Base class. The command line prints the message without traceback and exits with 1 (2 for a SettingError).

    Any other exception that reaches the command line is a bug and is shown with its traceback. Credentials in addresses
    are removed from the message.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(redact_text(one) if isinstance(one, str) else one for one in args))


class SettingError(DasError):
    """A setting is unknown, missing or wrong; the command line exits with 2."""


class PluginError(SettingError):
    """A plugin (such as a model from outside the package) is missing, or does not fulfil its contract."""


class StorageError(DasError):
    """The storage cannot be reached, denies access, or lacks the requested file."""


class DamagedFileError(StorageError):
    """A file that this project wrote is missing, truncated, or differs from its recorded digest."""


class OutputExistsError(DasError):
    """The output already holds something that is not replaced without ``overwrite``."""


class NotEnoughMemoryError(DasError):
    """The work needs more memory than there is; it is refused before it starts."""


class ClusterError(DasError):
    """The Ray cluster cannot be reached, or lacks requested resources."""


class BudgetError(DasError):
    """A budget leaves no rows.

    Attributes:
        budget: Budget, a share of the train rows.
    """

    def __init__(self, budget: float, reason: str) -> None:
        super().__init__(f"budget {budget:g} leaves no rows: {reason}")
        self.budget, self._reason = budget, reason

    def __reduce__(self) -> tuple[type[BudgetError], tuple[float, str]]:
        return BudgetError, (self.budget, self._reason)


def rebuilt(kind: str, sentence: str) -> DasError:
    """Rebuilds an error that another process raised, with its class if this process knows it.

    Args:
        kind: Name of the class.
        sentence: Message.
    """
    classes = [DasError]
    for one in classes:
        classes += one.__subclasses__()
    found = next((one for one in classes if one.__name__ == kind), DasError)
    # A class with its own __init__ composes the message from other arguments.
    return DasError(sentence) if "__init__" in vars(found) else found(sentence)
