"""Farzi as a distiller: synthetic sequences, learned by gradients through the training of a sequential model.

    teachers, one worker each ─► initialisation, first worker ─► Farzi (pools spread over workers, gradients summed)

Each teacher is trained by one worker on the whole log, with its own checkpoints, so that the result does not depend on
the number of workers. All workers hold the rows of the outer batches; validation users are divided among them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from distill_at_scale.data import storage
from distill_at_scale.distillation.distiller import Distilled, Distiller, Job
from distill_at_scale.distillation.farzi_config import FarziConfig
from distill_at_scale.errors import DasError, SettingError

if TYPE_CHECKING:
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.data.interactions import Interactions
    from distill_at_scale.distillation.farzi import LatentSequences
    from distill_at_scale.distillation.synthetic_manifest import SyntheticManifest


# Teachers cost most of a distillation; without them, the outer loss is that of the actual next items.
_CONTINUED = {"steps": 20, "validate_every": 20, "validation_students": 2, "pretrained": 0.0, "learned_rates": 0}


class FarziDistiller(Distiller):
    """Latent sequences on which a student performs like on the log; see `farzi`."""

    name: ClassVar[str] = "farzi"
    Config: ClassVar[type[BaseModel]] = FarziConfig
    makes = "sequences"
    options = ("length", "student")
    by_time = True
    shares_teachers = True
    continues = True
    memory_hint = "set fewer lesson_places, fewer or shorter --sequences, or prepare with --min-item to drop rare items"
    config: FarziConfig

    @classmethod
    def settings_after(cls, earlier: SyntheticManifest) -> dict[str, Any]:
        """Returns the earlier settings, with a few outer steps that need no teachers."""
        return {**super().settings_after(earlier), **_CONTINUED}

    @classmethod
    def for_workers(cls, workers: int) -> dict[str, Any]:
        return {"parallel": workers}

    def check(self, dataset: Dataset, workers: int) -> None:
        """Refuses impossible requests before any work is done.

        Raises:
            DasError: The dataset has no timestamps or no validation rows.
            SettingError: The model cannot be a student, its settings are wrong, or there are more workers than pools.
        """
        from distill_at_scale.distillation.students import create_student
        from distill_at_scale.models import create_model

        c, place = self.config, storage.redact(dataset.uri)
        super().check(dataset, workers)
        if not dataset.manifest.splits.get("validation"):
            raise DasError(f"{place} has no validation rows, which farzi needs; prepare it with another --split.")
        create_student(c.student, dataset.n_items, c.student_settings())
        if c.items == "codes":
            self._check_codes(dataset)
        create_model(c.student, c.teacher_settings())
        if workers > c.parallel:
            raise SettingError(
                f"--workers {workers} is more than the run's parallel={c.parallel} pools; set fewer workers, or start "
                "again with --overwrite."
            )

    def _check_codes(self, dataset: Dataset) -> None:
        from distill_at_scale.distillation.soft_tokens import CHUNKED_ABOVE

        if self.earlier is not None:
            raise SettingError("farzi with items=codes does not start from an earlier result; leave --from out.")
        if dataset.n_items > CHUNKED_ABOVE and not self.config.sampled:
            raise SettingError(
                f"farzi with items=codes holds the scores of all {dataset.n_items:,} items at once, which is too many; "
                "set sampled=1000 (--set sampled=1000)."
            )

    def memory(self, dataset: Dataset, workers: int) -> int:
        """Returns the peak bytes: soft tokens of a window with gradients, logits of a step and of an outer batch; with
        codes also of the teacher's training and of validation, which hold more."""
        from distill_at_scale.distillation.farzi.books_memory import books_numbers
        from distill_at_scale.distillation.farzi.inner_loop import STRETCH
        from distill_at_scale.distillation.farzi.narrow_factors import step_numbers
        from distill_at_scale.distillation.soft_tokens import numbers_needed, places_at_once
        from distill_at_scale.distillation.students import create_student
        from distill_at_scale.models import find_model

        c = self.config
        student = create_student(c.student, dataset.n_items, c.student_settings())
        per_pool = c.pool * 3 * sum(value.numel() for value in student.draw(0).values())
        unrolled = c.objective == "unrolled"
        in_window = min((c.window if unrolled else STRETCH) * c.batch, c.sequences)
        if student.books is not None:
            numbers = books_numbers(
                student, c, in_window * c.length, n_tokens=c.n_tokens, pools=(c.parallel + 4) * per_pool
            )
            settings = find_model(c.student).parse_config(c.teacher_settings())
            rows = find_model(c.student).rows_held(dataset, workers)
            taught = find_model(c.student).memory_needed(dataset.n_users, dataset.n_items, rows, settings)
            return max(4 * numbers, taught)
        # Other objectives train students without gradients of a window's tokens.
        held, copies = (6 if unrolled else 2) * in_window * c.length, 16 * c.batch * c.length
        narrow = c.token_width + int(c.student_settings()["dim"])
        numbers = numbers_needed(student.n_items, held, copies, narrow)
        asked = places_at_once(c.lesson_places, student.n_items)
        if c.fitted:
            numbers = max(numbers, step_numbers(student.n_items))
        drawn = min(1.0, c.real_users / max(1, dataset.n_users)) * dataset.manifest.splits["train"]
        return 4 * (numbers + 10 * asked * student.n_items + (c.parallel + 4) * per_pool) + 16 * int(drawn)

    def run(self, job: Job) -> Distilled:
        from distill_at_scale.distillation.continuing import continued_sequences
        from distill_at_scale.distillation.distillers.sketch import validation_users
        from distill_at_scale.distillation.farzi import OuterBatches, dequantise, drawn_rows, quantise
        from distill_at_scale.distillation.farzi.teaching import create_loop, train_teachers
        from distill_at_scale.distillation.students import create_student

        c = self.config
        users = validation_users(c, job)
        rows = drawn_rows(job.dataset, c.real_users, c.seed)
        # Too many or too long sequences are refused before the teachers are trained.
        if c.start == "teachers" and self.earlier is None:
            self._check_sequences(rows)
        student = create_student(c.student, job.dataset.n_items, c.student_settings())
        OuterBatches(rows, student.length, c.least_context, c.seed)
        teachers, pretrained, teachers_cpu_s = ([], [], 0.0) if self.earlier is not None else train_teachers(job, c)
        if c.items == "codes":
            student = teachers[0].student
        cpu = time.process_time()
        start = None
        if self.earlier is not None:
            start = continued_sequences(self.earlier, job.dataset, rows, job.device)
        farzi = create_loop(job, c, student, rows, teachers, pretrained, users, start)
        cpu = time.process_time() - cpu
        best = self._learn(job, farzi)
        stored = dequantise(quantise(best))
        on_device = stored.with_tensors([tensor.to(job.device) for tensor in stored.tensors])
        stored_metric = farzi.validation_metric(on_device)
        copied = self._copied(stored, rows)
        (cpu_s,) = users.added(cpu + farzi.cpu_s)
        values = [value for _, value in farzi.points]
        return Distilled(
            best,
            "coupled" if c.coupled else "decoupled",
            users.n_rows,
            teachers_cpu_s + cpu_s,
            [{"step": step, "metric": value} for step, value in farzi.points],
            sequences={
                "length": c.length,
                "width": best.decoder.shape[0],
                "coupled": c.coupled,
                "student": c.student,
                "settings": c.fit_settings(),
                "shuffled": c.shuffled,
                "metric": c.metric,
                "start": values[0],
                "exact": max(values),
                "stored": stored_metric,
            },
            costs={"teachers_cpu_s": teachers_cpu_s},
            copied=copied,
        )

    def _copied(self, stored: LatentSequences, rows: Interactions) -> float | None:
        """Share of the places whose most likely item is that of the real history that the sequence started from."""
        from distill_at_scale.distillation.discretise import discrete_sequences
        from distill_at_scale.distillation.farzi import real_sequences

        c = self.config
        if stored.items is not None:
            return 1.0
        if c.start != "teachers" or self.earlier is not None:
            return None
        real = real_sequences(rows, c.sequences, c.places_read, c.seed, joined=c.is_joined(rows))
        shown = discrete_sequences(stored, "top_k", 0).items.reshape(len(real), -1)
        return float((shown[:, : c.length] == real[:, : c.length]).mean())

    def _check_sequences(self, rows: Interactions) -> None:
        """Refuses more or longer sequences than the train rows give, and names the nearest that they do.

        Raises:
            DasError: The train rows do not suffice.
        """
        from distill_at_scale.distillation.farzi import most_sequences

        def most(length: int) -> int:
            c = self.config.model_copy(update={"length": length})
            return most_sequences(rows, c.places_read, joined=c.is_joined(rows))

        c = self.config
        possible = most(c.length)
        if c.sequences <= possible:
            return
        options = [f"set --sequences {possible}"] if possible else []
        shorter = [(length, most(length)) for length in range(c.length - 1, 1, -1)]
        options += [f"set --length {length}" for length, number in shorter if number >= c.sequences][:1]
        # Else both are too large.
        options = options or [f"set --length {length} and --sequences {number}" for length, number in shorter if number]
        raise DasError(
            f"--sequences {c.sequences} of --length {c.length} need more or longer histories than the train rows of "
            f"the {len(rows):,} users; {' or '.join(options[:2]) or 'take --method distill_cf'}."
        )

    def _learn(self, job: Job, farzi: Any) -> LatentSequences:
        """Runs the loop from the newest checkpoint to its end; returns the best sequences."""
        from distill_at_scale.distillation.farzi.teaching import TEACHERS_SHARE

        steps, first = self.config.steps, job.communicator.rank == 0
        if (newest := job.newest("sequences")) is not None:
            farzi.restore(newest)

        reported = len(farzi.points)

        def after_step() -> None:
            nonlocal reported
            if len(farzi.points) > reported:
                reported, (step, metric) = len(farzi.points), farzi.points[-1]
                job.report({"step": step, "loss": farzi.loss, self.config.metric: metric})
            if farzi.step and farzi.step % job.checkpoint_every == 0:
                # All workers contribute their trajectories; one writes them.
                content = farzi.state()
                job.keep(farzi.step, content, "sequences")
            if first:
                share = TEACHERS_SHARE + (1 - TEACHERS_SHARE) * min(farzi.step / steps, 0.99)
                job.on_progress(share, f"step {farzi.step}")

        best: LatentSequences = farzi.run(after_step)
        job.wait()
        return best
