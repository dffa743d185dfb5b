# Made by `python -m distill_at_scale.stubs` of the settings; a test compares it.

from typing import Any, Literal

from distill_at_scale.methods import DistillerMethod

class DistillCF(DistillerMethod):
    """The distiller distill_cf: makes a synthetic dataset, as `das distill --method distill_cf` does.

    Args:
        users: μ, number of synthetic users; None: the best of 20, 100 and 500 on validation. Default: None.
        rows: Row parametrisation: free (any real numbers), unit (in [0, 1]), binary (0 or 1); the paper's: gumbel
            (drawn), softmax (their mean for large τ). Default: 'free'.
        init: Initialisation: random users, centroids of k-means, or the closed-form sketch; None: the sketch for
            free rows, else random users. (From the sketch 100 free rows reach ndcg@10 34.3 on ml-1m in 270 steps,
            from random users 34.2 in 700; on amazon-ratings 3.9 and 3.2 in 150 steps, cut to three train rows a
            user 2.3 and 1.2.) Default: None.
        steps: Number of steps; None: 300 for 500 users, more for fewer. Default: None.
        batch_size: Real users per step, over all workers. Default: 512.
        hide: Share of a user's items that is hidden and must be predicted, at least one and not all; None: 0.5,
            in the paper's family 0. (On ml-1m with 500 free rows 0.3, 0.4, 0.5, 0.6 give validation ndcg@10
            0.2413, 0.2428, 0.2436, 0.2432, hr@100 0.580, 0.586, 0.594, 0.591.) Default: None.
        single_rows: Users with a single train row: left_out (their row is not learned from), hidden (it is a
            target without any input). Default: 'left_out'.
        learning_rate: Learning rate of Adam; None: 0.106 times the root mean square of the real users' entries
            (0.02 on ml-1m), for binary rows 0.02, in the paper's family 0.04. Default: None.
        warm_up: Number of warm-up steps; then the rate falls to 0 along a cosine. Default: 10.
        lam: Initial λ, which is learned; None: selected on validation rows for the initial rows, in the paper's
            family 1. Default: None.
        temperature: τ, temperature of the paper's family. Default: 10.0.
        draws: S, number of draws of the paper's family. Default: 200.
        sparsity: ρ, weight of the rows' sums in the paper's family. Default: 0.001.
        metric: Validation metric by which the best state and λ are selected. Default: 'ndcg@10'.
        validate_every: Steps between validations. Default: 25.
        patience: Number of steps without a better validation metric after which training stops; None: runs to the
            end. Default: None.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured. Default: 3000.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        users: int | None = None,
        rows: Literal['free', 'unit', 'binary', 'gumbel', 'softmax'] = 'free',
        init: Literal['random', 'kmeans', 'sketch'] | None = None,
        steps: int | None = None,
        batch_size: int = 512,
        hide: float | None = None,
        single_rows: Literal['left_out', 'hidden'] = 'left_out',
        learning_rate: float | None = None,
        warm_up: int = 10,
        lam: float | None = None,
        temperature: float = 10.0,
        draws: int = 200,
        sparsity: float = 0.001,
        metric: str = 'ndcg@10',
        validate_every: int = 25,
        patience: int | None = None,
        validation_users: int = 3000,
        seed: int = 0,
    ) -> None: ...


class Farzi(DistillerMethod):
    """The distiller farzi: makes a synthetic dataset, as `das distill --method farzi` does.

    Args:
        steps: Maximum number of outer steps. Default: 100.
        rate: Learning rate of the outer Adam; falls to a twentieth along a cosine. Default: 0.002.
        clip_norm: Maximum norm of an outer gradient. Default: 1.0.
        average: Weight of the past in the running mean of the sequences, which is validated and returned.
            Default: 0.95.
        batch: Sequences per student step. Default: 10.
        student_rate: Learning rate of the student's Adam. Default: 0.01.
        rate_spread: Spread of the trajectories' learning rates: between student_rate divided by this and times
            this. Default: 1.0.
        shuffled: Whether each trajectory uses the sequences in random orders, else in turn. Default: True.
        window: Number of student steps that are differentiated through. Default: 10.
        horizon: Number of steps after which a trajectory restarts; also the number of training steps of
            validation students. Default: 800.
        first_horizon: Initial length of a trajectory in steps; it grows linearly up to the horizon in the first
            half of the outer steps. None: the horizon from the start. Default: None.
        learned_rates: Number of parts of a student's training with their own learning rate, learned with the
            sequences and stored with them; 0: one rate, as set. Default: 0.
        pretrained: Share of the trajectories that begin with a teacher's parameters after 1, 2, 4, … epochs of
            its training; the others begin with random parameters. (Ω of the paper.) Default: 0.0.
        pool: Number of trajectories in progress; initially the k-th is at the k-th part of the horizon. Default:
            5.
        parallel: Number of pools; each step advances one trajectory of each, on its own outer batch, and uses the
            mean gradient. Default: 1.
        lesson_users: Windows of real sequences in an outer batch. Default: 128.
        lesson_places: Maximum number of positions predicted in them. Default: 1024.
        least_context: Minimum number of items before a predicted position. Default: 8.
        teacher_share: Weight of the teachers' predictions in the outer loss; the rest is that of the actual next
            items. Default: 0.8.
        alignment: Weight, in the outer loss, of the dissimilarity of the student's and the teachers' states (1 −
            linear CKA). Default: 0.0.
        mixed: Whether students run in bfloat16, except in a trajectory's first window; parameters and optimizers
            stay float32. None: on a GPU. (On ml-100k a gradient then makes an angle of 1° with that in float32,
            but of 61° in a first window.) Default: None.
        validate_every: Outer steps between validations. Default: 50.
        validation_students: Number of students whose mean metric is the validation's; on ml-100k they differ by 3
            %. Default: 4.
        patience: Number of validations without improvement after which it stops. Default: 6.
        seed: Random seed. Default: 0.
        sequences: μ, number of sequences. Default: 50.
        length: ξ, positions of a sequence. Default: 20.
        start: Initialisation of the sequences: real ones as the teachers see them, or noise. Default: 'teachers'.
        joined: Whether the real sequences of the initialisation are several users' concatenated, else one user's
            each; None: joined if a user has fewer train rows than positions on average. (On Amazon Beauty, 200 x
            20, the initial sequences then have validation ndcg@10 0.062 instead of 0.056: long sequences are few
            there, and unlike the others.) Default: None.
        student: Model that is trained on the sequences. Default: 'sasrec'.
        model: Settings of the student's architecture, such as {dim: 64}; default: one layer, dim 32, no dropout.
            Default: {}.
        coupled: Whether the next token is a position's target, as in the paper; else each position has its own
            target. Default: False.
        width: d, width of a token, at most the number of tokens and of items; None: as the initialisation needs:
            the student's dim (times the number of teachers without a consensus), plus 1 for popularity. Default:
            None.
        sharpness: Initial sharpness of an item's own token: this times the similarity of others to it; coupled:
            2. Default: 20.0.
        foresight: Initial weight of the teachers' predictions. Default: 1.0.
        popularity: Initial weight of the items' log counts. Default: 0.0.
        teachers: Number of models of the student's architecture, trained on the full data, for initialisation and
            outer loss. Default: 3.
        consensus: Number of steps in which one such model learns the teachers' mean prediction, for the
            initialisation; 0: the sequences are initialised from the mean of the teachers, which needs more
            width. Default: 400.
        teacher: Settings of the teachers' training, such as {epochs: 50}. Default: {}.
        metric: Validation metric by which the teachers' epochs and the best sequences are selected. Default:
            'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured. Default: 3000.
        real_users: Maximum number of users, drawn by hash, from whose rows sequences and outer batches are made.
            Default: 100000.
    """
    def __init__(
        self,
        *,
        steps: int = 100,
        rate: float = 0.002,
        clip_norm: float = 1.0,
        average: float = 0.95,
        batch: int = 10,
        student_rate: float = 0.01,
        rate_spread: float = 1.0,
        shuffled: bool = True,
        window: int = 10,
        horizon: int = 800,
        first_horizon: int | None = None,
        learned_rates: int = 0,
        pretrained: float = 0.0,
        pool: int = 5,
        parallel: int = 1,
        lesson_users: int = 128,
        lesson_places: int = 1024,
        least_context: int = 8,
        teacher_share: float = 0.8,
        alignment: float = 0.0,
        mixed: bool | None = None,
        validate_every: int = 50,
        validation_students: int = 4,
        patience: int = 6,
        seed: int = 0,
        sequences: int = 50,
        length: int = 20,
        start: Literal['teachers', 'random'] = 'teachers',
        joined: bool | None = None,
        student: Literal['sasrec', 'gru4rec'] = 'sasrec',
        model: dict[str, Any] = {},
        coupled: bool = False,
        width: int | None = None,
        sharpness: float = 20.0,
        foresight: float = 1.0,
        popularity: float = 0.0,
        teachers: int = 3,
        consensus: int = 400,
        teacher: dict[str, Any] = {},
        metric: str = 'ndcg@10',
        validation_users: int = 3000,
        real_users: int = 100000,
    ) -> None: ...


class Sketch(DistillerMethod):
    """The distiller sketch: makes a synthetic dataset, as `das distill --method sketch` does.

    Args:
        users: μ, number of synthetic users. Default: 500.
        metric: Validation metric by which λ is selected. Default: 'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured. Default: 3000.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        users: int = 500,
        metric: str = 'ndcg@10',
        validation_users: int = 3000,
        seed: int = 0,
    ) -> None: ...
