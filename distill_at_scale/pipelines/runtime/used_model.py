"""The fitted model that a verb uses: saved somewhere, or in this process's memory only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.models import Recommender, find_model, load_model, plugin_of
from distill_at_scale.models.saved import read_description
from distill_at_scale.pipelines.runtime import run_record
from distill_at_scale.pipelines.runtime.tasks import load


class ModelRef(BaseModel):
    """A fitted model."""

    model_config = ConfigDict(frozen=True)

    uri: str | None
    """Address, without passwords; None for a model in memory."""
    name: str
    settings: dict[str, Any]
    """Settings of the model, as in its configuration."""


@dataclass(frozen=True)
class UsedModel:
    """What is known of a model before it is loaded.

    Attributes:
        uri: where it lies; "" in memory.
        place: it, in a message.
        weights: SHA-256 of its weights; "" in memory.
        allow: the class from outside the package that it is of, if it is of one.
        trained_on: Fingerprints of datasets whose held-out rows it was not fitted on; empty if that is not known.
    """

    uri: str
    place: str
    name: str
    settings: dict[str, Any]
    item_space: str | None
    weights: str = ""
    allow: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()

    def check_items(self, dataset: Dataset) -> None:
        """Refuses a model whose item numbers are not the dataset's.

        Raises:
            DasError: saying so.
        """
        if self.item_space not in (None, dataset.manifest.item_space):
            raise DasError(
                f"{self.place} was fitted on another item numbering than that of {storage.redact(dataset.uri)}; fit it "
                "on this dataset."
            )

    def _is_foreign(self, dataset: Dataset) -> bool:
        """Whether the model was fitted on another dataset, as far as is recorded."""
        return bool(self.trained_on) and not set(self.trained_on) & set(dataset.manifest.of_heldout())

    def strangers_note(self, dataset: Dataset) -> list[str]:
        """Returns a note if the dataset may number users otherwise than the model does, which then knows none."""
        if not self._is_foreign(dataset) or self.allow or not find_model(self.name).numbers_users:
            return []
        return [
            f"{self.place} knows users by their numbers in the dataset that it was fitted on, and "
            f"{storage.redact(dataset.uri)} is another one: all users are served as new ones, by their histories."
        ]

    def foreign_note(self, dataset: Dataset) -> list[str]:
        """Returns a note if the model was fitted on another dataset, whose train rows may be held out in this one."""
        if not self._is_foreign(dataset):
            return []
        return [
            f"{self.place} was not fitted on {storage.redact(dataset.uri)} or what was made of it, as far as is "
            "recorded: these figures are too high if rows that are held out here were among its train rows, as after "
            "another split of the same log.",
            *self.strangers_note(dataset),
        ]

    def shared(self, model: Recommender | None, dataset: Dataset) -> ray.ObjectRef[Any]:
        """The model on the cluster, for a dataset: loaded there, or ``model``, which is in this process."""
        return load(_loaded, self.uri, self.allow, self._is_foreign(dataset)) if model is None else ray.put(model)

    def ref(self) -> ModelRef:
        """What a result says of it."""
        return ModelRef(uri=self.place if self.uri else None, name=self.name, settings=self.settings)


def _loaded(uri: str, allow: tuple[str, ...], foreign: bool) -> Recommender:
    model = load_model(uri, allow)
    if foreign:
        model.forget_users()
    return model


def described(address: str) -> UsedModel:
    """A saved model.

    Raises:
        DasError: when there is none, or it is damaged.
    """
    uri = storage.normalise(address)
    found = read_description(uri)
    return UsedModel(
        uri,
        storage.redact(uri),
        found.model,
        dict(found.config),
        found.item_space,
        found.weights.sha256,
        plugin_of(found, uri),
        run_record.read_trained_on(uri),
    )


def in_memory(model: Recommender) -> UsedModel:
    """A model that is not saved.

    Raises:
        DasError: it has not been fitted.
    """
    if model.n_items is None:
        raise DasError(f"{model.name} has not been fitted; call its fit first.")
    return UsedModel("", f"The model {model.name}", model.name, model.config.model_dump(mode="json"), model.item_space)
