"""Settings of the verb forget."""

from __future__ import annotations

from pydantic import model_validator

from distill_at_scale.config.values import ClusterConfig, Workers


class ForgetConfig(ClusterConfig):
    """Removes users from a dataset, a sample or a synthetic dataset, and reports how much of it depends on them.

    A dataset or sample is written without their rows and ids, exactly. A synthetic dataset is distilled again, with the
    same settings and seed, from the log without them. Items stay and keep their numbers, also those that only these
    users had.
    """

    data: str
    """Dataset, sample or synthetic dataset."""
    users: str
    """File with the ids of the users to forget: one per line, or a column user_id in CSV or Parquet."""
    output: str | None = None
    """Folder or storage URI for the result. Not needed with --dry-run."""
    log: str | None = None
    """Dataset that a synthetic dataset was distilled from. Default: where it was then."""
    remaining: str | None = None
    """Folder or storage URI for that dataset without the users, which stays there: models are evaluated on it. Default:
    --output with -log at its end."""
    dry_run: bool = False
    """Write nothing; only report how much depends on these users."""
    quick: bool = False
    """Start from the synthetic dataset (as `das distill --from`): a fraction of the cost, but what was
    learned from these users may remain in the result."""
    workers: Workers = 1
    """Number of workers that distill together."""
    gpu: bool = False
    """Use one GPU of the cluster per worker."""
    overwrite: bool = False
    """Replace what already exists at --output and --remaining."""

    @model_validator(mode="after")
    def _somewhere(self) -> ForgetConfig:
        if self.output is None and not self.dry_run:
            raise ValueError("'output' is missing: give a folder for the result, or 'dry_run' to write nothing")
        return self
