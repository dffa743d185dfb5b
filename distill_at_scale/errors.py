"""The exceptions users meet: one sentence that names what is wrong, where, and how to fix it."""

from __future__ import annotations

from distill_at_scale.uris import redact_text


class DasError(Exception):
    """One clear sentence for the user; every face prints it alone and exits with 1 (2 for a SettingError).

    Anything else that reaches a face is a bug and keeps its traceback. Secrets of addresses in it are left out.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(redact_text(one) if isinstance(one, str) else one for one in args))


class SettingError(DasError):
    """A setting that is unknown, missing or wrong: a mistake in how a verb was called; faces exit with 2."""


class PluginError(SettingError):
    """A model, sampler or distiller from outside the package that is not there, or is not what it should be."""


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


def rebuilt(kind: str, sentence: str) -> DasError:
    """An error that another process raised, of its class as far as this one knows it.

    Args:
        kind: name of the class.
        sentence: what it says.
    """
    classes = [DasError]
    for one in classes:
        classes += one.__subclasses__()
    found = next((one for one in classes if one.__name__ == kind), DasError)
    # One with an __init__ of its own composes its sentence of other things.
    return DasError(sentence) if "__init__" in vars(found) else found(sentence)
