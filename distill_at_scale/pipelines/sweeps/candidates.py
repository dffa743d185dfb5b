"""Candidates of `tune`: models with settings. Half are spread over a model's search space, the others are proposed by
Optuna's TPE from the results of these on the smallest sample; without Optuna all are spread.

Proposals are recorded, so that a search that goes on has the same candidates, whatever version of Optuna is installed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill_at_scale.data import hashing, recorded, storage
from distill_at_scale.data.preparation import restartable
from distill_at_scale.models import find_model
from distill_at_scale.models.search_space import IntegerRange, Range, tuning_space
from distill_at_scale.registry import file_name

RECORDS = "candidates"
"""Folder of a search: the settings that each model is tried with."""
_DIGITS = 4


@dataclass(frozen=True)
class Candidate:
    """A model with settings.

    Attributes:
        name: Unique name, such as ease-3; ease-0 has the model's defaults.
        settings: Settings that were given, and those that are searched.
        searched: Only the latter.
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    searched: Mapping[str, float]


class SettingsSearch:
    """Settings of one model to try.

    Attributes:
        space: Ranges of what is searched; empty if nothing is.
        total: Number of candidates.
    """

    def __init__(self, model: str, given: Mapping[str, Any], search: int, seed: int, output: str) -> None:
        """Args: ``given`` settings are not searched; ``search`` is the number wanted; ``output`` the folder."""
        self.model, self._given, self._seed = model, dict(given), seed
        config = find_model(model).parse_config(self._given).model_dump()
        self.space: dict[str, Range] = {k: v for k, v in tuning_space(config).items() if k not in given}
        self.total = search if self.space else 1
        self._first = _defaults(config, self.space)
        content = [model, self._given, search, seed, {name: vars(of) for name, of in self.space.items()}]
        self._key = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self._place = storage.join(output, RECORDS, f"{file_name(model)}.json")
        self.by_optuna = False

    def spread(self) -> list[Candidate]:
        """The first half, the defaults first."""
        n = -(-self.total // 2) if self._optuna() is not None else self.total
        return [self._candidate(k, self._first if k == 0 else self._spread(k)) for k in range(n)]

    def proposed(self, tried: Sequence[tuple[Candidate, float | None]]) -> list[Candidate]:
        """The other half.

        Args:
            tried: Those of :meth:`spread`, with the metric on the smallest sample; None for those that failed.
        """
        n = self.total - len(tried)
        if n <= 0:
            return []
        before = restartable.read_record(self._place)
        if before is not None and before["key"] == self._key and len(before["proposed"]) == n:
            found = before["proposed"]
        else:
            found = self._propose(tried, n)
            recorded.write_json(self._place, {"key": self._key, "proposed": found})
        self.by_optuna = True
        return [self._candidate(len(tried) + k, settings) for k, settings in enumerate(found)]

    def _candidate(self, k: int, searched: Mapping[str, float]) -> Candidate:
        return Candidate(f"{file_name(self.model)}-{k}", self.model, {**self._given, **searched}, dict(searched))

    def _spread(self, k: int) -> dict[str, float]:
        """The k-th point of a low-discrepancy sequence, shifted at random: k φ_d^-j modulo 1, where φ_d is the root of
        x^(d + 1) = x + 1 (Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018)."""
        names, root = list(self.space), 2.0
        for _ in range(64):
            root = (1.0 + root) ** (1.0 / (len(names) + 1))
        begin = hashing.stream("tune/settings", self._seed)
        found = {}
        for j, name in enumerate(names):
            shift = float(hashing.uniform(hashing.combine(begin, j))[0])
            found[name] = _rounded(self.space[name], self.space[name].at((shift + k * root ** -(j + 1.0)) % 1.0))
        return found

    @staticmethod
    def _optuna() -> Any:
        try:
            import optuna
        except ImportError:
            return None
        return optuna

    def _propose(self, tried: Sequence[tuple[Candidate, float | None]], n: int) -> list[dict[str, float]]:
        optuna = self._optuna()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        ranges = {
            name: optuna.distributions.IntDistribution(max(round(of.low), 1), max(round(of.high), 1), log=of.log)
            if isinstance(of, IntegerRange)
            else optuna.distributions.FloatDistribution(of.low, of.high, log=of.log)
            for name, of in self.space.items()
        }
        begin = hashing.stream("tune/proposals", self._seed)
        # The constant liar keeps proposals that wait for their results apart.
        sampler = optuna.samplers.TPESampler(
            seed=int(begin) % (1 << 32), n_startup_trials=1, constant_liar=True, multivariate=len(ranges) > 1
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for one, metric in tried:
            if metric is not None and all(ranges[name]._contains(value) for name, value in one.searched.items()):
                study.add_trial(
                    optuna.trial.create_trial(params=dict(one.searched), distributions=ranges, value=metric)
                )
        return [
            {name: _rounded(self.space[name], value) for name, value in study.ask(ranges).params.items()}
            for _ in range(n)
        ]


def _rounded(range_: Range, value: float) -> float:
    """Settings that people can read and type."""
    return int(value) if isinstance(range_, IntegerRange) else float(f"{value:.{_DIGITS}g}")


def _defaults(config: Mapping[str, Any], space: Mapping[str, Range]) -> dict[str, float]:
    """The default of each searched setting; for one that is selected from a grid, the middle of the grid."""
    found = {}
    for name, range_ in space.items():
        value = config[name]
        found[name] = _rounded(range_, range_.at(0.5) if value is None else value)
    return found
