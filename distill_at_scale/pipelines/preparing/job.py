"""One run of `prepare`: its settings, its place, and the start of its work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill_at_scale.config import PrepareConfig
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.log_record import Reading
from distill_at_scale.data.manifest import NAME as MANIFEST
from distill_at_scale.data.manifest import WORK
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.readers import Fragment, LogEstimate, LogSchema, plan_log
from distill_at_scale.data.splits import Split
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.preparing.earlier_log import NUMBERING_OF, EarlierLog
from distill_at_scale.pipelines.runtime import output_folder, run_record
from distill_at_scale.pipelines.runtime.own_settings import refuse_useless
from distill_at_scale.registry import SPLIT_RULES

ROWS_A_SHARD = 1_000_000
# What decides where and how the job runs, but not what comes out of it.
NOT_CONTENT = {"output", "address", "overwrite", "max_bad_share", "append", "keep_numbering"}


@dataclass(frozen=True)
class PrepareJob:
    """What every stage needs to know of a run."""

    config: PrepareConfig
    """Settings, with normalised inputs."""
    output: str
    work: str
    """Folder of what passes from stage to stage."""
    content: dict[str, Any]
    """Settings that determine the dataset, as its manifest names them."""
    rule: Split
    record: run_record.RunRecord
    given: list[str]
    """Inputs of this run, as messages name them."""
    in_memory: bool = False
    """Whether the inputs are files that are removed afterwards."""
    earlier: EarlierLog | None = None
    """Dataset that the inputs are appended to."""

    @classmethod
    def of(cls, config: PrepareConfig, origin: Sequence[str] = ()) -> PrepareJob:
        """The job that settings ask for; the manifest names ``origin`` as its input, if given.

        Raises:
            DasError: The dataset to append to is none, or the settings contradict its own.
            SettingError: A setting would be ignored.
        """
        earlier = None if config.append is None else EarlierLog.open(config.append, config.keep_numbering)
        if earlier is not None:
            config = earlier.settings(config, NOT_CONTENT)
        else:
            _refuse_shares(config)
        config = config.model_copy(update={"input": [storage.normalise(uri) for uri in config.input]})
        output = storage.normalise(config.output)
        content = config.model_dump(mode="json", exclude=NOT_CONTENT)
        given = list(origin) or [storage.redact(uri) for uri in config.input]
        content["input"] = given if earlier is None else [*earlier.inputs, *given]
        if earlier is not None and earlier.keeps_numbers:
            content[NUMBERING_OF] = earlier.log.fingerprint
        return cls(
            config=config,
            output=output,
            work=storage.join(output, WORK),
            content=content,
            rule=SPLIT_RULES.find(config.split),
            record=run_record.RunRecord("prepare", content),
            given=given,
            in_memory=bool(origin),
            earlier=earlier,
        )

    @property
    def inputs(self) -> str:
        """The inputs, as messages name them."""
        return ", ".join(self.given)

    @property
    def earlier_reading(self) -> Reading:
        """What reading the files of the earlier dataset gave; nothing without one."""
        return Reading() if self.earlier is None else self.earlier.log.reading

    def n_dealt(self, estimate: LogEstimate) -> int:
        """Into how many buckets rows are dealt; more than shards does no harm, so a guess of the rows will do."""
        rows = estimate.rows if estimate.exact else 2 * estimate.rows
        return self.n_shards(rows + self.earlier_reading.good)

    def exchange(self, fragments: int, estimate: LogEstimate) -> Exchange:
        """How rows get from the fragments to the buckets."""
        return Exchange.plan(fragments, self.n_dealt(estimate), estimate.rows)

    def n_shards(self, rows: int) -> int:
        """Number of shards of a dataset with this many rows; kept numbers need those of the earlier dataset."""
        if self.earlier is not None and self.earlier.keeps_numbers:
            return self.earlier.log.buckets
        return self.config.shards or _power_of_two(rows / ROWS_A_SHARD)

    # -- what happens before any row is read -----------------------------------------------------------------

    def check_places(self) -> None:
        """Refuses an output inside the input, or one that is not this run's to write to.

        Raises:
            DasError: saying which.
        """
        for uri, shown in zip(self.config.input, self.given):
            if f"{self.output}/".startswith(uri.rstrip("/") + "/"):
                raise DasError(
                    f"{storage.redact(self.output)} lies in the input {shown}, so its files would be read as part "
                    "of the log; choose an --output outside of it."
                )
        if self.earlier is not None:
            output_folder.check_apart(self.output, self.earlier.dataset.uri)
        output_folder.check(self.output, self.config.overwrite)
        storage.check_writable(storage.join(self.work, output_folder.PLAN))

    def plan_log(self) -> tuple[LogSchema, list[Fragment], LogEstimate]:
        """How the inputs are read, as :func:`~distill_at_scale.data.readers.plan_log` returns it; of inputs that are
        appended, those that are new, with the types of the earlier dataset.

        Raises:
            DasError: The inputs cannot be read, have no rows, lack a column, or differ from the earlier dataset's.
        """
        config, earlier, remedy = self.config, self.earlier, None
        if earlier is not None:
            config = config.model_copy(update={"input": earlier.new_inputs(config.input)})
            remedy = earlier.column_remedy
        schema, pieces, estimate = plan_log(config, self.rule.in_log, remedy=remedy)
        if not pieces:
            raise DasError(f"no rows in the input ({self.inputs}).")
        if earlier is not None:
            schema = earlier.fitted(schema)
        self.check_columns(schema, estimate)
        return schema, pieces, estimate

    def check_columns(self, schema: LogSchema, estimate: LogEstimate) -> None:
        """Refuses a log without the columns that the settings need.

        Raises:
            DasError: naming the column, and those that look like it.
        """
        config = self.config
        if self.rule.by_time and not schema.has_timestamp:
            raise DasError(
                f"--split {config.split} goes by time, but the log has no timestamp column; name it with "
                "--map timestamp=COLUMN, say --order file if its lines are in the order of time, or use "
                f"--split 20_percent_hist.{_alike(estimate, Columns.TIMESTAMP)}"
            )
        if config.min_rating is not None and not schema.has_rating:
            raise DasError(
                "--min-rating is set, but the log has no rating column; name it with --map rating=COLUMN, or --weight."
                f"{_alike(estimate, Columns.RATING)}"
            )

    def begin(self, schema: LogSchema, pieces: Sequence[Fragment]) -> bool:
        """Takes up the work of an earlier run of the same job or starts again; True if all is done."""
        plan = {
            "config": self.content,
            "schema": schema.model_dump(mode="json"),
            "fragments": [piece.model_dump(mode="json") for piece in pieces],
            "versions": run_record.made_with(),
        }
        if self.earlier is not None:
            plan["append"] = self.earlier.plan
        digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
        plan_uri = storage.join(self.work, output_folder.PLAN)
        finished = storage.exists(storage.join(self.output, MANIFEST))
        if output_folder.planned(plan_uri) == digest:
            return finished
        if finished and not self.config.overwrite:
            raise output_folder.holds_dataset(self.output)
        # A plan without a digest marks the place as ours while what an earlier run left is removed.
        recorded.write_json(plan_uri, {"digest": None})
        output_folder.clear(self.output)
        recorded.write_json(plan_uri, {"digest": digest, "config": self.content})
        return False


def _refuse_shares(config: PrepareConfig) -> None:
    """Refuses shares for a split that does not go by them.

    Raises:
        SettingError: Names the share and the splits that do.
    """
    if not SPLIT_RULES.find(config.split).at_times:
        having = " and ".join(name for name, rule in SPLIT_RULES.items() if rule.at_times)
        refuse_useless(config, ("validation_share", "test_share"), f"is of --split {having}, not of {config.split}")


def _power_of_two(at_least: float) -> int:
    """The smallest power of two that is not below ``at_least``, at most 65,536."""
    return next((1 << k for k in range(16) if 1 << k >= at_least), 1 << 16)


def _alike(estimate: LogEstimate, column: str) -> str:
    """A sentence on the columns of the log that look like one that is not read; nothing where none does."""
    notice = estimate.lookalikes.get(column)
    return "" if notice is None else f" Noticed: {notice}."
