"""Sentences used on both the terminal and the page: the models of a comparison, the savings of a small dataset."""

from __future__ import annotations

from collections.abc import Sequence


def several(names: Sequence[str]) -> str:
    """Joins names for a sentence: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def compared_on(models: Sequence[str], trained: Sequence[str]) -> str:
    """Returns a phrase that says over which models the kept share is averaged.

    Args:
        models: Models on which the methods are compared.
        trained: All models that were trained.
    """
    left = [model for model in trained if model not in models]
    said = f"of {models[0]}" if len(models) == 1 else f"mean over {several(models)}"
    return f"{said}, which all methods support (not {several(left)})" if left else said


def savings(
    *,
    unit: str,
    share: float | None,
    bytes_share: float | None,
    make_cpu_s: float | None,
    fit_share: float | None,
    fit_cpu_s: float | None = None,
    fit_full_cpu_s: float | None = None,
    models: Sequence[str] = (),
) -> list[str]:
    """Returns sentences on the size of a small dataset and what it saves.

    Args:
        unit: What the budget counts: train rows, users or sequences.
        share: Share of the log's train rows, or of its users.
        bytes_share: Its bytes as a share of the train rows' bytes.
        make_cpu_s: CPU-seconds of making it.
        fit_share: Cost of training the models on it as a share of the cost on all rows.
        fit_cpu_s, fit_full_cpu_s: Costs of training on it and on all rows in CPU-seconds.
        models: Models that are trained.
    """
    said = []
    of = "train rows" if unit == "train rows" else "users"
    held = [f"{_percent(share)} as many {unit} as the log has {of}"] if share is not None else []
    if unit == "train rows" and share is not None:
        held = [f"{_percent(share)} of the log's train rows"]
    if bytes_share is not None:
        held.append(f"{_times(bytes_share)} the bytes of the log's train rows")
    if held:
        said.append(f"It holds {' and takes '.join(held)}." if share is not None else f"It takes {held[0]}.")
    if fit_share is not None:
        what = f"Training {several(models)} once" if models else "Training on it"
        seconds = ""
        if fit_cpu_s is not None and fit_full_cpu_s is not None:
            seconds = f" ({_seconds(fit_cpu_s)} instead of {_seconds(fit_full_cpu_s)})"
        if fit_share < 1:
            said.append(f"{what} saves {_percent(1 - fit_share)} of the CPU time that all rows take{seconds}.")
        else:
            said.append(f"{what} saves nothing: it takes {_times(fit_share)} the CPU time of all rows{seconds}.")
    if make_cpu_s is not None:
        paid = ""
        if fit_full_cpu_s is not None and fit_cpu_s is not None:
            saved = fit_full_cpu_s - fit_cpu_s
            paid = (
                f", as much as {make_cpu_s / saved:.2g} such trainings save" if saved > 0 else ", which never pays off"
            )
        said.append(f"Making it takes {_seconds(make_cpu_s)}{paid}.")
    return said


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 1 else f"{100 * share:.0f} %"


def _times(share: float) -> str:
    """Formats a share as a percentage, or as a multiple if it is at least 1."""
    return f"{_percent(share)} of" if share < 1 else f"{share:.2g} times"


def _seconds(cpu_s: float) -> str:
    return f"{cpu_s:.3g} CPU-seconds" if cpu_s < 1000 else f"{cpu_s:,.0f} CPU-seconds"
