"""Distill-CF as a distiller: synthetic users, learned by gradients through ∞-AE."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel

from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.distiller import Distilled, Distiller, Job, Loop
from distill_at_scale.distillation.distillers.sketch import real_users, rows_memory

if TYPE_CHECKING:
    from distill_at_scale.data.dataset import Dataset


class DistillCFDistiller(Distiller):
    """A few synthetic users on which ∞-AE learns what it learns from all real ones; see `distill_cf`."""

    name: ClassVar[str] = "distill_cf"
    Config: ClassVar[type[BaseModel]] = DistillCFConfig
    makes = "rows"
    config: DistillCFConfig

    def memory(self, dataset: Dataset, workers: int) -> int:
        return rows_memory(self.config.users, self.config.batch_size, dataset, workers)

    def run(self, job: Job) -> Distilled:
        from distill_at_scale.distillation.distill_cf import DistillCF

        users = real_users(self.config, job)
        loop = DistillCF(self.config, users, job.device)
        if (newest := job.newest()) is not None:
            loop.restore(newest)

        def after_step() -> None:
            if loop.step % job.checkpoint_every == 0 and job.communicator.rank == 0:
                job.keep(loop.step, loop.state())

        loop.run(job.on_progress, after_step)
        job.wait()
        rows, chosen = loop.result()
        (cpu_s,) = users.added(loop.cpu_s)
        curve = [{"step": point.step, "metric": point.metric, "lam": point.lam} for point in loop.points]
        return Distilled(rows.values, loop.family, users.n_rows, cpu_s, curve, chosen, rows.chosen)

    def searched(self) -> dict[str, float]:
        return {"learning_rate": self.config.rate, "hide": self.config.hidden}

    def rounds(self) -> int:
        from distill_at_scale.distillation.distill_cf import default_steps

        c = self.config
        return 1 + -(-(c.steps or default_steps(c.users)) // c.validate_every)

    def trial(self, dataset: Dataset) -> Loop:
        from distill_at_scale.distillation.distill_cf import DistillCF
        from distill_at_scale.distillation.users import RealUsers
        from distill_at_scale.models.training.sources import ShardSource

        c = self.config
        return DistillCF(c, RealUsers(ShardSource(dataset), seed=c.seed, judged=c.validation_users))
