# Made by `python -m distill_at_scale.stubs` of the settings; a test compares it.

from typing import Any, Literal

from distill_at_scale.methods import DistillerMethod

class DistillCF(DistillerMethod):
    """The distiller distill_cf: makes a synthetic dataset, as `das distill --method distill_cf` does.

    Args:
        users: μ, synthetic users. Default: 500.
        rows: free: any real numbers; unit: in [0, 1]; binary: 0 or 1; the paper's: gumbel (drawn), softmax (their
            mean for large τ). Default: 'free'.
        init: Where they start: random users, centroids of k-means, or the closed-form sketch. Default: 'random'.
        steps: Steps; None: more for fewer users, 300 for 500 of them. Default: None.
        batch_size: Real users of a step, over all workers. Default: 512.
        hide: Share of a user's items that is hidden and must be predicted; None: .5, in the paper's family 0. (On
            ml-1m with 500 free rows .3, .4, .5, .6 give validation ndcg@10 .2413, .2428, .2436, .2432, hr@100
            .580, .586, .594, .591.) Default: None.
        learning_rate: Learning rate of Adam; None: 0.02, in the paper's family 0.04. Default: None.
        warm_up: Steps in which the rate rises; then it falls to 0 along a cosine. Default: 10.
        lam: λ at the start; it is learned. Default: 1.0.
        temperature: τ, of the paper's family. Default: 10.0.
        draws: S, of the paper's family. Default: 200.
        sparsity: ρ, weight of the rows' sums, of the paper's family. Default: 0.001.
        metric: Validation metric by which the best state and λ are chosen. Default: 'ndcg@10'.
        validate_every: Steps between validations. Default: 25.
        patience: Steps without a better validation metric after which it stops; None: goes to the end of the
            schedule. Default: None.
        validation_users: Users, drawn by hash, on whom it is measured; all where there are fewer. Default: 3000.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        users: int = 500,
        rows: Literal['free', 'unit', 'binary', 'gumbel', 'softmax'] = 'free',
        init: Literal['random', 'kmeans', 'sketch'] = 'random',
        steps: int | None = None,
        batch_size: int = 512,
        hide: float | None = None,
        learning_rate: float | None = None,
        warm_up: int = 10,
        lam: float = 1.0,
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
        steps: Outer steps at most. Default: 100.
        rate: Learning rate of the outer Adam; falls to a twentieth along a cosine. Default: 0.002.
        clip_norm: Largest norm of an outer gradient. Default: 1.0.
        average: Weight of the past in the running mean of the sequences, which is what is validated and returned.
            Default: 0.95.
        batch: Sequences of a student's step. Default: 10.
        student_rate: Learning rate of the student's Adam. Default: 0.01.
        rate_spread: Trajectories have rates between student_rate over this and times this. Default: 1.0.
        shuffled: Whether each trajectory takes the sequences in random orders, else in turn. Default: True.
        window: Student's steps that are differentiated through. Default: 10.
        horizon: Number of steps after which a trajectory restarts; also the steps of a student in validation.
            Default: 800.
        first_horizon: Initial length of a trajectory in steps; it grows with the outer steps, and reaches all of
            the horizon once half of the outer steps are done; None: after all of it from the first. Default:
            None.
        learned_rates: Parts of a student's training that have a learning rate of their own, learned with the
            sequences and stored with them; 0: one rate, as it is set. Default: 0.
        pretrained: Share of the trajectories that begin where a teacher was after 1, 2, 4, … epochs of its
            training; the others have random parameters at first. (Ω of the paper.) Default: 0.0.
        pool: Trajectories under way; at first the k-th stands at the k-th part of the horizon. Default: 5.
        parallel: Pools; each step goes on with one trajectory of each, on lessons of their own, and takes the
            mean gradient. Default: 1.
        lesson_users: Windows of real sequences in a lesson. Default: 128.
        lesson_places: Places asked in them, at most. Default: 1024.
        least_context: Items that stand before a place that is asked. Default: 8.
        teacher_share: Weight of the teachers' predictions in the outer loss; the items that came next have the
            rest. Default: 0.8.
        alignment: Weight, in the outer loss, of how unlike the student's states are to the teachers' (1 − linear
            CKA). Default: 0.0.
        mixed: Whether students' passes are made in bfloat16, but for a trajectory's first window, parameters and
            optimizers staying float32; None: on a GPU. (On ml-100k a gradient then makes an angle of 1° with that
            in float32, but of 61° in a first window.) Default: None.
        validate_every: Outer steps between validations. Default: 50.
        validation_students: Students whose mean metric is the validation's; one differs from the next by 3 % on
            ml-100k. Default: 4.
        patience: Validations without a better one after which it stops. Default: 6.
        seed: Random seed. Default: 0.
        sequences: μ. Default: 50.
        length: ξ, places of a sequence. Default: 20.
        start: What the sequences are before they are learned: real ones as the teachers see them, or noise.
            Default: 'teachers'.
        joined: Whether real sequences that synthetic ones start from are several users' laid end to end, else one
            user's each; None: where a user has fewer train rows than places on average. (On Amazon Beauty, 200 x
            20, the start then has validation ndcg@10 .062 instead of .056: long sequences are few there, and
            unlike the others.) Default: None.
        student: The model that is taught. Default: 'sasrec'.
        model: Settings of the student's architecture, as {dim: 64}; those not given: one layer, dim 32, no
            dropout. Default: {}.
        coupled: Whether the token after a place is its target, as in the paper; else each place has a target of
            its own. Default: False.
        width: d, width of a token, at most the number of tokens and of items; None: what the initialisation
            needs, the student's dim, without a consensus as much for every teacher, and one more for popularity.
            Default: None.
        sharpness: Initial sharpness of an item's own token: this times the similarity of others to it; coupled:
            2. Default: 20.0.
        foresight: Weight of the teachers' predictions at the start. Default: 1.0.
        popularity: Weight of the items' log counts at the start. Default: 0.0.
        teachers: Models of the student's architecture, trained on the full data, that the sequences start from
            and learn from. Default: 3.
        consensus: Steps in which one model of that kind learns what the teachers agree on, for the sequences to
            start from; 0: they start from the mean of the teachers, which needs more width. Default: 400.
        teacher: Settings of their training, as {epochs: 50}. Default: {}.
        metric: By which the teachers' epochs and the best sequences are chosen on validation rows. Default:
            'ndcg@10'.
        validation_users: Users, drawn by hash, on whom it is measured; all where there are fewer. Default: 3000.
        real_users: Users, drawn by hash, of whose rows sequences and lessons are made; all where there are fewer.
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
        users: μ, synthetic users. Default: 500.
        metric: Validation metric by which λ is chosen. Default: 'ndcg@10'.
        validation_users: Users, drawn by hash, on whom it is measured; all where there are fewer. Default: 3000.
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
