"""Memory of Farzi with items=codes."""

from __future__ import annotations

from distill_at_scale.distillation.farzi_config import FarziConfig
from distill_at_scale.distillation.students import Student
from distill_at_scale.evaluation.item_blocks import ranking_memory

# Positions whose scores of all items are made at once when the sequences are initialised.
_CHUNK = 32


def books_numbers(student: Student, config: FarziConfig, window_places: int, *, n_tokens: int, pools: int) -> int:
    """Returns the number of float32 values of a worker at its peak.

    Args:
        student: Student with books.
        config: Settings of the distillation.
        window_places: Positions of a window.
        n_tokens: Soft tokens in all.
        pools: Values of all trajectories.
    """
    assert student.books is not None
    n_items, books, dim = student.n_items, student.books, int(config.student_settings()["dim"])
    columns = books.n_books * books.size
    scored = min(config.sampled or n_items, n_items)
    # Tokens of a window with their gradients; tokens and scores of a step in its double backward pass, and vectors of
    # the scored items for each book.
    step = 6 * window_places * columns + 16 * config.batch * config.length * (columns + scored)
    step += 10 * config.lesson_places * scored + 6 * books.n_books * scored * dim
    # Codes as bytes, and the sums of a book after the other; two tables of all items, and scores in validation or of a
    # chunk of positions in the initialisation. Neither happens within a step.
    whole = n_items * (books.n_books // 4 + 3 * dim) + ranking_memory(n_items, bounded=False) // 4
    start = n_items * (dim + 3 * _CHUNK) + 4 * n_tokens * columns
    return pools + max(step, whole, start)
