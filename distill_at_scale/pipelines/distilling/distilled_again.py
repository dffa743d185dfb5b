"""Synthetic data distilled again from their log without some users: which log, which settings, and how exact it is."""

from __future__ import annotations

from typing import Any

from distill_at_scale.config import DistillConfig, ForgetConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import NAME
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import DasError
from distill_at_scale.registry import DISTILLERS


def parent_of(made: SyntheticDataset, log: str | None) -> Dataset:
    """Opens the dataset that synthetic data were distilled from.

    Args:
        made: Synthetic data.
        log: Where the dataset is; None: where it was.

    Raises:
        DasError: It is not there, or another one is.
    """
    parent, uri = made.manifest.parent, storage.redact(made.uri)
    if log is None and not storage.exists(storage.join(storage.normalise(parent.uri), NAME)):
        raise DasError(
            f"{uri} was distilled from {parent.uri}, where no dataset is now; name the folder where it is by --log."
        )
    dataset = Dataset.open(parent.uri if log is None else log)
    m = dataset.manifest
    if parent.fingerprint:
        same, known = m.fingerprint == parent.fingerprint, f"the fingerprint {parent.fingerprint}"
    else:
        # A private result has no fingerprint, since that would depend on every user.
        same = (m.item_space, m.n_users) == (parent.item_space, parent.n_users)
        known = f"{parent.n_users:,} users, and the items of the result"
    if not same:
        raise DasError(
            f"{storage.redact(dataset.uri)} is not the dataset that {uri} was distilled from (it had {known}); name "
            "that one by --log."
        )
    return dataset


def settings_again(made: SyntheticDataset, config: ForgetConfig, data: str, output: str) -> DistillConfig:
    """Returns the distillation that made the data, of another log.

    Args:
        made: Synthetic data.
        config: Settings of forget.
        data: Address of the log.
        output: Address of the result.
    """
    m = made.manifest
    kind = DISTILLERS.find(m.method)
    asked: dict[str, Any] = {"from_": made.uri}
    if not config.quick:
        own = {name: m.config[name] for name in (kind.size(), *kind.options) if m.config.get(name) is not None}
        others = {name: value for name, value in m.config.items() if name not in {*own, "seed"}}
        asked = {**own, "set": {name: value for name, value in others.items() if value is not None}}
    return DistillConfig(
        data=data,
        method=m.method,
        output=output,
        seed=m.config["seed"],
        workers=config.workers,
        gpu=config.gpu,
        overwrite=config.overwrite,
        address=config.address,
        **asked,
    )


def check_left(made: SyntheticDataset, dataset: Dataset, left: int, file: str) -> None:
    """Refuses to leave fewer users than the synthetic ones that were asked for.

    Args:
        made: Synthetic data.
        dataset: Dataset that they were distilled from.
        left: Number of users who stay.
        file: File of the others' ids.

    Raises:
        DasError: There are too few.
    """
    size = DISTILLERS.find(made.manifest.method).size()
    # Without a number that was asked for, the distiller chooses it by the users there are.
    asked = made.manifest.config.get(size)
    if asked is not None and asked > left:
        raise DasError(
            f"{storage.redact(file)} leaves {left:,} users, fewer than the {asked:,} {size} of "
            f"{storage.redact(made.uri)}; forget them in {storage.redact(dataset.uri)}, and distill that into fewer."
        )


def how_exact(made: SyntheticDataset, quick: bool) -> list[str]:
    """Says what the data that were distilled again still depend on, as sentences.

    Args:
        made: The former synthetic data.
        quick: Whether the new ones were started from them.
    """
    m = made.manifest
    if quick:
        return ["Not exact: it was started from the old result, so what that learned from these users may remain."]
    notes = ["Exact: it was distilled from the log without these users, with the same settings and seed."]
    if m.privacy is not None:
        notes = [
            "It was distilled from the log without these users, with the same settings and new noise. The ε of the old "
            "result and of this one add up for the users who stay."
        ]
    if m.earlier is not None:
        notes.append(
            f"The old result had been started from {m.earlier.uri}, this one from scratch with the settings of that "
            "continuation; if its quality falls, distill the log without these users with settings of your own."
        )
    return notes
