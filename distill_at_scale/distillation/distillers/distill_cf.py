"""Distill-CF as a distiller: synthetic users, learned by gradients through ∞-AE."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel

from distill_at_scale.distillation.distill_cf_config import SIZES, DistillCFConfig
from distill_at_scale.distillation.distiller import Distilled, Distiller, Job, Loop
from distill_at_scale.distillation.distillers.sketch import (
    READING,
    factors_memory,
    read_notes,
    real_users,
    rows_memory,
    share_read,
)
from distill_at_scale.errors import SettingError
from distill_at_scale.models.synthetic_rows import FactoredRows

if TYPE_CHECKING:
    import torch

    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.distillation.contenders import Contender
    from distill_at_scale.distillation.distill_cf import DistillCF
    from distill_at_scale.distillation.synthetic import SyntheticDataset
    from distill_at_scale.distillation.synthetic_manifest import SyntheticManifest
    from distill_at_scale.distillation.users import RealUsers

# Validation users of a run that goes on from an earlier result: most of its cost would be comparing values of λ.
_JUDGES_AGAIN = 2000
# A number of users is given up halfway if its best validation metric is below this share of the best of another.
_HOPELESS = 0.9
# Of the time, as progress tells it: on logs of some hundred thousand rows the comparisons after them take the rest.
_STEPS_SHARE = 0.7


class DistillCFDistiller(Distiller):
    """A few synthetic users on which ∞-AE learns what it learns from all real ones; see `distill_cf`.

    The result is held against the sketch and the most active users on validation, and the best of them is returned;
    the latter are these users' own rows, which the result says.
    """

    name: ClassVar[str] = "distill_cf"
    Config: ClassVar[type[BaseModel]] = DistillCFConfig
    makes = "rows"
    continues = True
    options = ("privacy",)
    memory_hint = (
        "set fewer users, or more workers; without privacy also a smaller real_rows, and for free rows a rank "
        "(--set rank=64) or a smaller one"
    )
    config: DistillCFConfig

    @classmethod
    def settings_after(cls, earlier: SyntheticManifest) -> dict[str, Any]:
        """Returns the earlier settings, with the λ that was learned with its rows to begin with, as many steps as
        suffice from there, and fewer validation users."""
        best = max(earlier.curve, key=lambda point: point["metric"], default=earlier.settings.get("infinite_ae", {}))
        settings = {**super().settings_after(earlier), "lam": best.get("lam"), "steps": None}
        settings["validation_users"] = min(settings.get("validation_users", _JUDGES_AGAIN), _JUDGES_AGAIN)
        return {name: value for name, value in settings.items() if value is not None}

    def check(self, dataset: Dataset, workers: int) -> None:
        super().check(dataset, workers)
        private = self.config.private
        if private is not None:
            from distill_at_scale.distillation.privacy.accountant import require_accountant

            if self.earlier is not None:
                raise SettingError(
                    "--privacy does not start from an earlier result, whose ε would have to be added; leave --from out."
                )
            require_accountant()
            private.delta_of(dataset.n_users)

    def numbers(self, n_users: int) -> list[int]:
        if self.config.privacy is not None and self.config.users is None:
            from distill_at_scale.distillation.privacy.loop import USERS

            return [min(USERS, n_users)]
        return self.config.numbers(n_users)

    def planned_steps(self, number: int) -> int:
        from distill_at_scale.distillation.distill_cf import default_steps

        if self.config.privacy is not None:
            from distill_at_scale.distillation.privacy.loop import STEPS

            return self.config.steps or STEPS
        return self.config.steps or default_steps(number, self.config.initialisation)

    def planned_width(self, n_items: int) -> int:
        from distill_at_scale.distillation.privacy.loop import RANK

        # Private rows are always factors.
        return self.config.rank or (n_items if self.config.privacy is None else RANK)

    def memory(self, dataset: Dataset, workers: int) -> int:
        if self.config.privacy is not None:
            from distill_at_scale.distillation.privacy.memory import private_memory

            return private_memory(self.config, dataset, workers)
        number = max(self.numbers(dataset.n_users))
        if self.config.rank is not None:
            return factors_memory(self.config, number, dataset, workers)
        return rows_memory(self.config, number, self.config.batch_size, dataset, workers)

    def run(self, job: Job) -> Distilled:
        users = real_users(self.config, job)
        if self.config.privacy is not None:
            from distill_at_scale.distillation.privacy.run import run_private

            return run_private(self.config, users, job)
        numbers = self.config.numbers(users.n_filled, users.has_validation)
        runs: list[_Run] = []
        for k, number in enumerate(numbers):

            def on_progress(share: float, step: str, k: int = k, number: int = number) -> None:
                said = step if len(numbers) == 1 else f"{number} users, {step}"
                job.on_progress(READING + (1 - READING) * (k + share) / len(numbers), said)

            best = max((run.loop.best_point().metric for run in runs if run.loop.points), default=0.0)
            runs.append(self._with(number, users, job, on_progress, best, "" if len(numbers) == 1 else f"{number}"))
        return self._result(runs, users, job)

    def _with(
        self,
        number: int,
        users: RealUsers,
        job: Job,
        on_progress: Callable[[float, str], None],
        best: float,
        folder: str,
    ) -> _Run:
        """Distills into the given number of users, and compares them with simpler ones."""
        import torch

        from distill_at_scale.distillation.contenders import DISTILLED, Contender, simple_contenders
        from distill_at_scale.distillation.distill_cf import DistillCF

        config, start = self.config.model_copy(update={"users": number}), None
        simple: list[Contender] = []
        from_sketch, cpu = False, time.process_time()
        if self.earlier is not None:
            start, simple = self._start_again(self.earlier, number, users, job)
            if simple and simple[0].metrics["infinite_ae"] > self._metric(start, users):
                from_sketch, sketch = True, simple[0].tuned
                start = torch.from_numpy(sketch.rows.values).to(start)
                config = config.model_copy(update={"lam": sketch.chosen["infinite_ae"].chosen})
        cpu = time.process_time() - cpu
        loop = DistillCF(config, users, job.device, start)
        if (newest := job.newest(folder)) is not None:
            loop.restore(newest)

        reported = len(loop.points)

        def after_step() -> None:
            nonlocal reported
            if len(loop.points) > reported:
                reported, point = len(loop.points), loop.points[-1]
                job.report({"step": point.step, self.config.metric: point.metric})
            if loop.step % job.checkpoint_every == 0 and job.communicator.rank == 0:
                job.keep(loop.step, loop.state(), folder)

        def give_up() -> bool:
            return 2 * loop.step >= loop.n_steps and loop.best_point().metric < _HOPELESS * best

        of_steps = _STEPS_SHARE if users.has_validation else 1.0
        loop.run(lambda share, step: on_progress(of_steps * share, step), after_step, give_up if best else None)
        job.wait()
        on_progress(of_steps, "choosing λ for each model")
        distilled = Contender(DISTILLED, loop.result())
        if not users.has_validation:
            return _Run(loop, distilled, [])
        if self.earlier is not None:
            return _Run(loop, distilled, simple, from_sketch, cpu)
        on_progress((1 + of_steps) / 2, "comparing with the sketch and the most active users")
        return _Run(loop, distilled, simple_contenders(self.config, number, users, made=loop.sketch))

    def _start_again(
        self, earlier: SyntheticDataset, number: int, users: RealUsers, job: Job
    ) -> tuple[torch.Tensor, list[Contender]]:
        """Returns the earlier rows, and the sketch, which follows a log that changes at a fraction of a distillation's
        cost."""
        from distill_at_scale.distillation.contenders import SKETCH, simple_contenders
        from distill_at_scale.distillation.continuing import continued_rows

        start = continued_rows(earlier, job.dataset, users)
        if not users.has_validation:
            return start, []
        return start, simple_contenders(self.config, number, users, [SKETCH])

    def _metric(self, start: torch.Tensor, users: RealUsers) -> float:
        """Validation metric of ∞-AE on rows to start from."""
        from distill_at_scale.distillation.select_lambda import ridge_score

        score = ridge_score(start.cpu().numpy(), self.config.lam or 1.0)
        return users.validation_metric(score, self.config.metric, self.name)

    def _result(self, runs: list[_Run], users: RealUsers, job: Job) -> Distilled:
        from distill_at_scale.distillation.contenders import ALL_USERS, DISTILLED, all_users, full_is_affordable

        run = max(runs, key=lambda one: one.winner.mean) if users.has_validation else runs[0]
        loop, winner, c = run.loop, run.winner, self.config
        contenders: dict[str, dict[str, float]] = {}
        if users.has_validation:
            contenders = {one.name: one.metrics for one in (run.distilled, *run.simple)}
            contenders["start"] = {"infinite_ae": loop.points[0].metric}
            if self.earlier is None and full_is_affordable(c, len(winner.tuned.rows), loop.n_steps, users):
                contenders[ALL_USERS] = all_users(users, c.metric).metrics
            job.on_progress(0.99, f"kept: {winner.name}")
        (cpu_s,) = users.added(sum(one.loop.cpu_s + one.start_cpu_s for one in runs))
        kept, values = winner.name == DISTILLED, winner.tuned.rows.given
        copied = 0 if isinstance(values, FactoredRows) else users.copied(values)
        return Distilled(
            values,
            loop.family if kept else winner.name,
            users.n_rows,
            cpu_s,
            [{"step": point.step, "metric": point.metric, "lam": point.lam} for point in loop.points],
            winner.tuned.chosen,
            winner.tuned.rows.chosen,
            winner=winner.name if contenders else None,
            contenders=contenders,
            notes=self._notes(run, users) + copied_notes(copied, len(values)),
            n_filled=users.n_filled,
            learned=None if kept else _learned(loop),
            copied=copied / len(values),
        )

    def _notes(self, run: _Run, users: RealUsers) -> list[str]:
        """What to know of a result: what won and why."""
        from distill_at_scale.distillation.contenders import DISTILLED, SKETCH

        loop, winner, metric = run.loop, run.winner, self.config.metric
        notes = read_notes(users)
        if self.earlier is not None:
            began = "an earlier result"
            if run.from_sketch:
                began = "a new sketch, which is better on validation than the earlier result"
            notes.append(f"Started from {began}, and compared with the sketch only.")
        if not loop.n_steps:
            notes.append("No user has two train rows, so there is nothing to learn; the rows are those of the start.")
        elif loop.points and loop.best_point().step == 0:
            notes.append(f"The best step is 0: none improved the initial rows (init={loop.init}) on validation.")
        if winner.name != DISTILLED:
            other = "; --method sketch makes them at a fraction of the cost" if winner.name == SKETCH else ""
            values = f"mean {metric} of ∞-AE and EASE {winner.mean:.4f} and {run.distilled.mean:.4f}"
            notes.append(
                f"The result is the rows of the {winner.name}: on validation the distilled ones do not lead by "
                f"more than two standard errors ({values}){other}."
            )
        return notes

    def searched(self) -> dict[str, float]:
        # A search reads the validation rows of real users.
        return {} if self.config.privacy else {"learning_rate": self.config.rate, "hide": self.config.hidden}

    def rounds(self) -> int:
        c = self.config
        return 1 + -(-self.planned_steps(c.users or SIZES[0]) // c.validate_every)

    def trial(self, dataset: Dataset) -> Loop:
        from distill_at_scale.distillation.distill_cf import DistillCF
        from distill_at_scale.distillation.users import RealUsers
        from distill_at_scale.models.training.sources import ShardSource

        c = self.config
        share = share_read(c, dataset)
        users = RealUsers(ShardSource(dataset), seed=c.seed, validation_users=c.validation_users, share=share)
        return DistillCF(c, users)


def _learned(loop: DistillCF) -> np.ndarray | None:
    """Returns the learned rows that a later distillation continues from; None for factors, which cannot be continued,
    and if no step improved the initial rows."""
    values, _ = loop.rows()
    return values if isinstance(values, np.ndarray) and loop.points and loop.best_point().step else None


def copied_notes(copied: int, number: int) -> list[str]:
    """What to know of rows that are not synthetic."""
    if not copied:
        return []
    return [f"{copied:,} of the {number:,} rows equal the train rows of a real user, and are as private as these."]


@dataclass(frozen=True)
class _Run:
    """Distilling into one number of users, and what it was compared with."""

    loop: DistillCF
    distilled: Contender
    simple: list[Contender]
    from_sketch: bool = False
    """Whether a run that was to go on from an earlier result started from a new sketch."""
    start_cpu_s: float = 0.0
    """CPU-seconds of this worker for choosing the rows to start from."""

    @property
    def winner(self) -> Contender:
        from distill_at_scale.distillation.contenders import best

        return best(self.distilled, self.simple) if self.simple else self.distilled
