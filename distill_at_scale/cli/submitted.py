"""The words behind `das submit`: a verb and its options, checked here before they run as a job elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from distill_at_scale.cli import options, planning
from distill_at_scale.cli.verbs import VERBS, Verb
from distill_at_scale.config.submit import JOB_VERBS, job_verbs
from distill_at_scale.errors import SettingError
from distill_at_scale.registry import OUTSIDE_VERBS, is_spec
from distill_at_scale.settings import load, read_settings
from distill_at_scale.uris import is_local, local_path
from distill_at_scale.validation import has_choices, not_one_of

_HERE_ONLY = ("address", "log_file", "plan", "plan_nodes", "price")
_ADDRESSES = (
    "comparison",
    "data",
    "dataset",
    "genie",
    "input",
    "model",
    "output",
    "propensities",
    "samples",
    "scores",
    "storage",
    "sweep",
    "sweeps",
    "teachers_at",
    "users",
)
Parse = Callable[[str, Verb, Sequence[str]], dict[str, Any]]
"""What typer makes of some options of a verb."""


def settings_of_job(parse: Parse, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of `submit`: the verb and its settings, out of what typer parsed.

    Raises:
        SettingError: the verb, or an option or setting of it, is unknown, missing or wrong.
    """
    words = [*filter(None, [given["verb"]]), *(given[options.REST] or [])]
    before = {} if given["config"] is None else read_settings(given["config"])
    if not words:
        if "verb" not in before:
            raise SettingError(f"A verb is missing, as das submit prepare …; it is one of {', '.join(JOB_VERBS)}.")
        words = str(before["verb"]).split()
    n = next((n for n in (2, 1) if " ".join(words[:n]) in JOB_VERBS), 1)
    name, rest = " ".join(words[:n]), words[n:]
    if name not in JOB_VERBS and not is_spec(name) and name not in OUTSIDE_VERBS:
        raise SettingError(f"The verb {not_one_of(name, job_verbs())}")
    verb = VERBS[name] if name in JOB_VERBS else VERBS.setdefault(name, OUTSIDE_VERBS.find(name))
    own = parse(name, verb, options.spread(rest, verb))
    for option in _HERE_ONLY:
        if own.get(option) not in (None, False):
            where = (
                "leave it out"
                if option in planning.OPTIONS
                else f"give das submit {options.flag(option)} before the verb"
            )
            raise SettingError(f"das {name} {options.flag(option)} cannot be given to a job; {where}.")
    content = dict(before.get("settings") or {})
    content |= {} if own["config"] is None else read_settings(own["config"])
    content |= options.settings_of(verb, own)
    load(verb.model, settings=content, words=options.OptionWords(verb))
    content = {name: _absolute(verb, name, value) for name, value in content.items()}
    flags = [option for option in ("json", "quiet", "verbose") if own[option]]
    return {"verb": name, "settings": content, **({"flags": flags} if flags else {})}


def _absolute(verb: Verb, name: str, value: Any) -> Any:
    """A setting in which local paths do not depend on the folder that this process is in."""
    if name not in _ADDRESSES or has_choices(verb.model.model_fields[name]):
        return value
    if isinstance(value, list):
        return [_absolute(verb, name, one) for one in value]
    if not isinstance(value, str) or not value or not is_local(value):
        return value
    # Users may be a number, too.
    return local_path(value) if name != "users" or os.path.exists(value) else value
