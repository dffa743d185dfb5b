"""Types of setting values (names of tables, shares, lists), and the base of every verb's settings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from distill_at_scale.data import catalog
from distill_at_scale.evaluation.metric_names import at_cutoffs
from distill_at_scale.registry import DISTILLERS, METHODS, MODELS, SAMPLERS
from distill_at_scale.uris import check
from distill_at_scale.validation import OneOf, choices_of, same_name, seconds

KS = (10, 100)
"""Cut-offs of the ranking metrics."""


def at_commas(given: Any) -> Any:
    """Splits values that are joined by commas, such as ``0.5,0.1``."""
    if not isinstance(given, list | tuple | str | int | float):
        return given
    several = given if isinstance(given, list | tuple) else [given]
    return [part.strip() for one in several for part in str(one).split(",")]


def _share(text: str) -> str:
    """Rejects values that are not shares of the train rows."""
    try:
        share = float(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a number; a budget is a share of the train rows, such as 0.1") from None
    if not 0 < share <= 1:
        raise ValueError(f"{text} is not a share of the train rows; it must be above 0 and at most 1")
    return text


def _workers(given: Any) -> int | str:
    """Reads a number of workers, or the least and the most of them, such as ``2:8``."""
    try:
        least, most = worker_range(given)
    except (TypeError, ValueError):
        raise ValueError(
            f"'{given}' is not a number of workers, such as 2, nor the least and the most, such as 2:8"
        ) from None
    if least < 1:
        raise ValueError(f"{given if least == most else f'{least} of {given}'} must be at least 1")
    if least > most:
        raise ValueError(f"'{given}' has the most before the least; write {most}:{least}")
    return least if least == most else f"{least}:{most}"


def _duration(text: str) -> str:
    """Rejects what is not a length of time."""
    seconds(text)
    return text


def worker_range(given: int | str) -> tuple[int, int]:
    """Returns the least and the most workers that a setting of the type :data:`Workers` asks for."""
    least, colon, most = str(given).partition(":")
    return int(least), int(most if colon else least)


Model = Annotated[str, OneOf(lambda: MODELS, MODELS.find)]
Sampler = Annotated[str, OneOf(lambda: SAMPLERS, SAMPLERS.find, prefix="column=")]
Method = Annotated[str, OneOf(lambda: (*METHODS, "all"), METHODS.find)]
Distiller = Annotated[str, OneOf(lambda: DISTILLERS, DISTILLERS.find)]
PublicLog = Annotated[str, OneOf(lambda: catalog.LOGS)]
Metric = Annotated[str, OneOf(lambda: at_cutoffs(KS))]
Duration = Annotated[str, AfterValidator(_duration)]
"""Length of time, as 90s, 10m or 2h."""
Workers = Annotated[int | str, BeforeValidator(_workers)]
"""Number of workers, or the least and the most of them, as text: ``2:8``."""
Share = Annotated[str, BeforeValidator(str), BeforeValidator(lambda text: _share(str(text)))]
GENIE_KINDS = ("additive", "means", "ridge", "trees", "pointwise", "pairwise", "blend", "anchored")
GenieKind = Annotated[str, OneOf(lambda: GENIE_KINDS)]
AtCommas = BeforeValidator(at_commas)


class Verb(BaseModel):
    """Base of a verb's settings: unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    @field_validator("*")
    @classmethod
    def _without_credentials(cls, value: Any, info: ValidationInfo) -> Any:
        """Rejects addresses with a user name or password, except that of a tracking server, which needs them in the
        address."""
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and info.field_name != "mlflow":
                check(text)
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _in_any_case(cls, given: Any, info: ValidationInfo) -> Any:
        """Accepts the values of an option with a few choices in any case."""
        choices = choices_of(cls.model_fields[info.field_name or ""]) if isinstance(given, str) else None
        return (same_name(given, choices) or given) if choices and isinstance(given, str) else given


class ClusterConfig(Verb):
    """Settings of verbs that run on Ray."""

    address: str | None = None
    """Ray cluster to run on: auto, host:port or ray://host:port. Default: the session that this process is connected
    to, else a local Ray on this machine."""
    # It decides on nothing in the result: no saved settings hold it.
    wait_for_nodes: Duration | None = Field(None, exclude=True)
    """How long to wait for nodes that an autoscaler starts, such as 90s or 10m, before giving up. Default: as long as
    it takes."""
