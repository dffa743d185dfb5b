"""What a small dataset is worth, by six questions: quality, cost, transfer, privacy, noise, order of models.

Source of the questions: Gong and others, "GC4NC: a benchmark framework for graph condensation on node classification
with new insights" (NeurIPS 2024). Only what was measured is told: by the run that made the dataset, and by
`das compare`.
"""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from pydantic import BaseModel

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.synthetic_manifest import SyntheticManifest, is_synthetic
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.evaluation.slices import SLICES
from distill_at_scale.pipelines.compare import NAME, Compared, Comparison
from distill_at_scale.pipelines.runtime import run_record
from distill_at_scale.samplers import find_sampler

UNKNOWN = "not measured: das compare measures it, on this dataset and the full one"
UNKNOWN_OF_SYNTHETIC = (
    "not measured: a das sweep with --methods {method} measures it (das compare takes samples only); or compare models "
    "by das fit --data {data} and das evaluate --data {parent}"
)


class Answer(BaseModel):
    """One of the questions.

    Attributes:
        question: What is asked, such as "quality".
        measured: Whether there is a figure.
        value: The main figure; None without one.
        told: The answer as a sentence or two.
    """

    question: str
    measured: bool
    value: float | None = None
    told: str


class DatasetReport(BaseModel):
    """A small dataset, and the answers."""

    uri: str
    """Address of the page."""
    dataset: str
    """Address of the small dataset."""
    method: str
    rows: int
    """Train rows, or rows of synthetic users or sequences."""
    comparison: str | None
    answers: list[Answer]
    """In the order quality, cost, transfer, privacy, noise, order."""


def judge(uri: str, comparison: str | None, output: str) -> DatasetReport:
    """Collects what is known of a small dataset.

    Args:
        uri: Small dataset, sampled or synthetic.
        comparison: Folder of a comparison that it is part of, or None.
        output: Address of the page.

    Raises:
        DasError: The dataset or comparison does not exist, or the comparison is of others.
    """
    place = storage.normalise(uri)
    whole = None if comparison is None else _read(comparison)
    found: Compared | None = None
    others: list[Compared] = []
    made: SyntheticManifest | None = None
    unknown = UNKNOWN
    if is_synthetic(place):
        from distill_at_scale.distillation.synthetic import SyntheticDataset

        made = SyntheticDataset.open(place).manifest
        method, rows = made.method, made.n_users
        unknown = UNKNOWN_OF_SYNTHETIC.format(
            method=method, data=storage.redact(place), parent=storage.redact(made.parent.uri)
        )
        if whole is not None:
            raise DasError(
                f"{storage.redact(place)} is synthetic, and das compare takes samples only; leave out --comparison."
            )
    else:
        dataset = Dataset.open(place)
        if dataset.manifest.parent is None:
            raise DasError(
                f"{storage.redact(place)} was not made of another dataset, so it has nothing to be compared with."
            )
        method, rows = str(dataset.manifest.config.get("sampler", "")), dataset.manifest.splits["train"]
        if whole is not None:
            found, others = _compared(dataset, whole)
    return DatasetReport(
        uri=output,
        dataset=storage.redact(place),
        method=method,
        rows=rows,
        comparison=None if comparison is None else storage.redact(storage.normalise(comparison)),
        answers=[
            _quality(found, unknown),
            _cost(place, found, whole),
            _transfer(found, method, unknown),
            _privacy_of_rows(rows) if made is None else _privacy(made),
            _noise(found, others, unknown),
            _order(found, unknown),
        ],
    )


def _read(uri: str) -> Comparison:
    place = storage.normalise(uri)
    file = storage.join(place, NAME)
    try:
        content: Any = storage.read_json(file)
    except FileNotFoundError:
        raise DasError(
            f"{storage.redact(place)} is not a comparison: it has no {NAME}; das compare makes one."
        ) from None
    with recorded.parsing(file, "run the same das compare again"):
        return Comparison.model_validate({name: content[name] for name in Comparison.model_fields if name in content})


def _compared(dataset: Dataset, comparison: Comparison) -> tuple[Compared, list[Compared]]:
    """What a comparison says of a dataset, and of those of other seeds.

    Raises:
        DasError: The comparison is of others.
    """
    small = comparison.small
    own = next((one for one in small if one.fingerprint == dataset.manifest.fingerprint), None)
    if own is None:
        raise DasError(
            f"{storage.redact(comparison.uri)} compares other datasets than {storage.redact(dataset.uri)}: "
            f"{', '.join(one.uri for one in small)}."
        )
    return own, [one for one in small if (one.method, one.budget) == (own.method, own.budget) and one is not own]


def _kept(of: Compared) -> dict[str, float]:
    return {model: kept[PRIMARY] for model, kept in of.retention.kept.items() if kept.get(PRIMARY) is not None}


def _quality(found: Compared | None, unknown: str) -> Answer:
    if found is None or not _kept(found):
        return Answer(question="quality", measured=False, told=unknown)
    kept = _kept(found)
    told = f"{100 * mean(kept.values()):.1f} % of {PRIMARY} is kept, as a mean over {len(kept)} models."
    slices = {
        part: [of[part] for of in found.kept_by_slice.values() if part in of] for part in SLICES if found.kept_by_slice
    }
    if all(slices.values()) and slices:
        told += " By popularity: " + ", ".join(f"{part} {100 * mean(of):.0f} %" for part, of in slices.items()) + "."
    return Answer(question="quality", measured=True, value=mean(kept.values()), told=told)


def _cost(uri: str, found: Compared | None, whole: Comparison | None) -> Answer:
    try:
        made = sum(stage.cpu_s for stage in run_record.read_stages(uri))
    except DamagedFileError:
        return Answer(
            question="cost", measured=False, told="not measured: the record of the run that made it is missing"
        )
    told = f"Making it took {made:,.1f} CPU-seconds, shared with what was made in the same run."
    if found is None or whole is None:
        return Answer(question="cost", measured=True, value=made, told=told)
    small, full = (sum(one.fit_cpu_s for one in of.values()) for of in (found.models, whole.full))
    told += (
        f" A fit of each of {len(found.models)} models takes {small:,.1f} CPU-seconds on it, {full:,.1f} on all data"
    )
    told += f", so it pays after {made / (full - small):,.1f} rounds of fits." if full > small else "; it never pays."
    return Answer(question="cost", measured=True, value=made, told=told)


def _transfer(found: Compared | None, method: str, unknown: str) -> Answer:
    if found is None or len(_kept(found)) < 2:
        return Answer(question="transfer", measured=False, told=unknown)
    kept = _kept(found)
    try:
        proxy = find_sampler(method).proxy
    except DasError:
        proxy = None
    worst = min(kept, key=lambda model: kept[model])
    made_for = "no model" if proxy is None else f"a proxy ({proxy})"
    told = f"It was made for {made_for}. {worst} keeps the least: {100 * kept[worst]:.1f} %; "
    told += f"{max(kept, key=lambda model: kept[model])} keeps the most: {100 * max(kept.values()):.1f} %."
    return Answer(question="transfer", measured=True, value=kept[worst], told=told)


def _privacy(made: SyntheticManifest) -> Answer:
    if made.privacy is not None:
        return Answer(question="privacy", measured=True, value=made.privacy.epsilon, told=made.privacy.sentence)
    near = "How near they come to a real user's is not measured here."
    if made.copied is None:
        told = f"Whether real users' own rows can be read from its {made.kind} is not known. {near}"
    elif made.kind == "sequences":
        told = (
            f"Its sequences started from the newest items of real users, and {100 * made.copied:.0f} % of their places "
            "still show these items: to that extent it is as private as the log."
        )
    elif made.copied:
        told = (
            f"{round(made.copied * made.n_users):,} of its {made.n_users:,} rows equal a real user's train rows: it is "
            "as private as these."
        )
    else:
        told = f"None of its {made.n_users:,} rows equals a real user's train rows. {near}"
    return Answer(question="privacy", measured=False, told=told)


def _privacy_of_rows(rows: int) -> Answer:
    told = f"All {rows:,} train rows are those of real users, with their own ids: it is as private as the full log."
    return Answer(question="privacy", measured=True, value=0.0, told=told)


def _noise(found: Compared | None, others: list[Compared], unknown: str) -> Answer:
    if found is None or not (found.changed or others):
        return Answer(question="noise", measured=False, told=unknown)
    told, value = [], None
    if others and (kept := [mean(_kept(one).values()) for one in (found, *others) if _kept(one)])[1:]:
        value = stdev(kept)
        told.append(f"Over {len(kept)} seeds what is kept varies by {100 * value:.1f} points (standard deviation).")
    else:
        told.append("Seeds: not measured; compare samples of several --seed.")
    if found.changed:
        told.append(
            f"{100 * mean(found.changed.values()):.0f} % of a user's 10 best items differ from those on all data."
        )
    if found.changed_by_seed:
        told.append(f"{100 * mean(found.changed_by_seed.values()):.0f} % differ from those of another seed.")
    return Answer(question="noise", measured=True, value=value, told=" ".join(told))


def _order(found: Compared | None, unknown: str) -> Answer:
    tau = None if found is None else found.retention.tau
    if found is None or tau is None:
        return Answer(question="order of models", measured=False, told=unknown)
    told = f"Kendall's τ with the full data's ranking of {len(found.models)} models: {tau:.2f}."
    return Answer(question="order of models", measured=True, value=tau, told=told)
