"""A private run of Distill-CF as a distiller's job."""

from __future__ import annotations

from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.distiller import Distilled, Job
from distill_at_scale.distillation.privacy.loop import PrivateDistillCF
from distill_at_scale.distillation.users import RealUsers

# EASE's λ, of the mean number of train rows of an item: no validation rows are read to select it.
_EASE_LAM = 8.0


def run_private(config: DistillCFConfig, users: RealUsers, job: Job) -> Distilled:
    """Runs one worker's part; all workers return the same result, in which everything of the log has noise.

    Raises:
        DasError: The accountant is missing, or the checkpoint is of a run with other settings.
    """
    loop = PrivateDistillCF(config, users, job.newest())

    def after_step() -> None:
        if loop.step % job.checkpoint_every == 0 and job.communicator.rank == 0:
            job.keep(loop.step, loop.state())

    loop.run(job.on_progress, after_step)
    job.wait()
    rows, lam = loop.rows()
    n_rows, record = loop.start.n_rows, loop.record()
    (cpu_s,) = users.added(loop.cpu_s)
    return Distilled(
        rows,
        "factored, private",
        n_rows,
        cpu_s,
        settings={"infinite_ae": {"lam": lam}, "ease": {"lam": ease_lam(n_rows, users.n_items)}},
        notes=["With --privacy nothing is validated: the steps are fixed, and λ was not selected on validation rows."],
        privacy=record,
        item_counts=loop.start.item_counts,
    )


def ease_lam(n_rows: int, n_items: int) -> float:
    """Returns EASE's λ for rows with noise, from the estimated number of train rows."""
    return _EASE_LAM * n_rows / n_items
