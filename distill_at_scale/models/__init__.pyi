# Made by `python -m distill_at_scale.stubs` of the settings; a test compares it.

from collections.abc import Collection, Mapping
from typing import Any, Literal

from distill_at_scale.models.base import ModelConfig as ModelConfig, Recommender as Recommender
from distill_at_scale.registry import Registry

MODELS: Registry[type[Recommender]]

def create_model(name: str, settings: Mapping[str, Any] | None = None) -> Recommender: ...
def find_model(name: str) -> type[Recommender]: ...
def load_model(uri: str, allow: Collection[str] = ()) -> Recommender: ...
def plugin_of(described: Mapping[str, Any], uri: str, allow: Collection[str] = ()) -> tuple[str, ...]: ...

from distill_at_scale.models.popularity import Popularity as _Popularity


class Popularity(_Popularity):
    """score(u, i) = number of train rows of i.

    Practical limits: any number of users; memory is one number per item.

    Args:
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
    ) -> None: ...


from distill_at_scale.models.ease import Ease as _Ease


class Ease(_Ease):
    """B = argmin ‖X - XB‖² + λ‖B‖² with zero diagonal; scores are X B.

    Source: Steck, "Embarrassingly shallow autoencoders for sparse data" (WWW 2019), equation 8.

    Practical limits: any number of users, but items × items matrices. With the search for λ, 10,000 items take 1.1 GiB
    in float32 (estimated at 1.9 GiB if float64 may be used) and 100,000 items 112 GiB; time grows with the cube of the
    items.

    Args:
        lam: λ, added to the diagonal of XᵀX; None: selected on validation rows. Default: None.
        grid: Values of λ tried on validation rows; the search continues beyond an edge that is best. Default:
            (50, 100, 200, 400, 800, 1600).
        metric: Validation metric by which λ is selected. Default: 'ndcg@10'.
        dtype: Precision of the inverse; auto: float64 where float32 could lose more than three digits. Default:
            'auto'.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        lam: float | None = None,
        grid: tuple[float, ...] = (50, 100, 200, 400, 800, 1600),
        metric: str = 'ndcg@10',
        dtype: Literal['auto', 'float32', 'float64'] = 'auto',
    ) -> None: ...


from distill_at_scale.models.svd_ae import SvdAE as _SvdAE


class SvdAE(_SvdAE):
    """Scores are R̃ V_k Σ_k^-1 U_kᵀ R, with R̃ = D_u^-1/2 R D_i^-1/2 ≈ U_k Σ_k V_kᵀ.

    Source: Hong, Choi, Lee, Kumar, Park, "SVD-AE: simple autoencoders for collaborative filtering"
    (IJCAI 2024), section 3. Its reference code fits train and validation rows together before the test; here the fit
    uses only train rows, and a user's validation rows are only input history.

    Practical limits: memory and time grow with (users + items) × rank, so it serves millions of both. The SVD
    is a randomised subspace iteration (Halko, Martinsson, Tropp, SIAM Review 2011), deterministic for a given seed.

    Args:
        rank: Number of singular vectors; None: selected on validation rows. Default: None.
        grid: Ranks tried on validation rows; the search continues beyond an edge that is best, up to twice the
            largest. Default: (16, 32, 64, 96, 128, 192, 256).
        metric: Validation metric by which the rank is selected. Default: 'ndcg@10'.
        iterations: Number of subspace iterations of the SVD. Default: 8.
        seed: Random seed of the SVD's initial basis. Default: 0.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        rank: int | None = None,
        grid: tuple[int, ...] = (16, 32, 64, 96, 128, 192, 256),
        metric: str = 'ndcg@10',
        iterations: int = 8,
        seed: int = 0,
    ) -> None: ...


from distill_at_scale.models.infinite_ae import InfiniteAE as _InfiniteAE


class InfiniteAE(_InfiniteAE):
    """P = K(histories, train) (K(train, train) + λ' I)^-1 X with λ' = λ · mean diagonal of K.

    Source: Sachdeva, Dhaliwal, Wu, McAuley, "Infinite recommendation networks: a data-centric approach"
    (NeurIPS 2022), equation 2. New users need no new fit: their history is compared with the train users'. Users
    without train rows are excluded; their all-zero rows would bias predictions towards zero (on samples of whole users
    of ml-1m, ndcg@10 0.20 instead of 0.28).

    Practical limits of the exact solver: kernel and factor are users × users, the solution users × items. 6,040
    users × 3,706 items take 0.6 GiB and a minute on one core with the grid; 40,000 users × 20,000 items take 21 GiB and
    hours. The flops are U³/3 + 2 U² I per λ. The other solvers distribute the users over workers; see :mod:`.solvers`.

    After a fit by nystrom, the "train users" that histories are compared with are the landmarks, and α is W.

    Args:
        lam: λ > 0, relative to the kernel's mean diagonal; None: selected on validation rows. Default: None.
        grid: Values of λ tried on validation rows; the search continues beyond an edge that is best. Default: (1,
            2, 5, 10, 20, 50, 100).
        metric: Validation metric by which λ is selected. The reference implementation uses hr@100. Default:
            'ndcg@10'.
        dtype: Precision of kernel and solve; auto: float64 where float32 could lose more than three digits.
            Default: 'auto'.
        device: Device for kernel and solve of the exact solver; auto: a GPU if available. Default: 'auto'.
        solver: Solver: exact (users × users in memory), pcg (the same answer with less memory and more time),
            nystrom (an approximation by landmarks), or auto, which chooses by users, items, memory and workers.
            Default: 'auto'.
        landmarks: Number of landmark users for nystrom, or for the preconditioner of pcg, at most all users with
            rows; None: 2,000 for nystrom, 500 for pcg. Default: None.
        draw: Method of drawing landmarks: uniform, or leverage (by approximate ridge leverage scores); or the URI
            of a synthetic dataset, whose rows become the landmarks (nystrom). Default: 'uniform'.
        tolerance: Relative residual at which pcg stops. Default: 1e-05.
        seed: Random seed of the landmarks. Default: 0.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        lam: float | None = None,
        grid: tuple[float, ...] = (1, 2, 5, 10, 20, 50, 100),
        metric: str = 'ndcg@10',
        dtype: Literal['auto', 'float32', 'float64'] = 'auto',
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        solver: Literal['auto', 'exact', 'nystrom', 'pcg'] = 'auto',
        landmarks: int | None = None,
        draw: str = 'uniform',
        tolerance: float = 1e-05,
        seed: int = 0,
    ) -> None: ...


from distill_at_scale.models.bias import Bias as _Bias


class Bias(_Bias):
    """score(u, i) = μ + b_u + b_i.

    Source: Koren, Bell, Volinsky, "Matrix factorization techniques for recommender systems" (IEEE Computer 2009),
    equation 3. With the implicit objective b_u cancels out and μ = 0, so all users get the same ranking.

    Args:
        epochs: Maximum number of passes over the train rows; with validation rows, the best one counts. Default:
            30.
        patience: Epochs without a better validation metric after which training stops. Default: 10.
        metric: Validation metric. Default: 'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured after each epoch.
            Default: 50000.
        batch_size: Rows or users per step, over all workers. Default: 1024.
        learning_rate: Learning rate of Adam. Default: 0.01.
        betas: Decay rates of Adam's two moments. Default: (0.9, 0.999).
        weight_decay: Weight decay of Adam: this times each parameter is added to its gradient. Default: 0.0.
        seed: Random seed. Default: 0.
        device: Device for training; scoring uses a GPU if available, unless this is cpu. Default: 'auto'.
        objective: Training objective: implicit ranks rows above randomly drawn items; explicit minimises the
            squared error of the ratings (use metric=mse). Default: 'implicit'.
        negatives: Number of items drawn for each row (implicit). Default: 1.
        dropout: Dropout rate of the vectors. Default: 0.0.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        epochs: int = 30,
        patience: int = 10,
        metric: str = 'ndcg@10',
        validation_users: int = 50000,
        batch_size: int = 1024,
        learning_rate: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        seed: int = 0,
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        objective: Literal['implicit', 'explicit'] = 'implicit',
        negatives: int = 1,
        dropout: float = 0.0,
    ) -> None: ...


from distill_at_scale.models.mf import MF as _MF


class MF(_MF):
    """score(u, i) = μ + b_u + b_i + p_u · q_i.

    Source: Koren, Bell, Volinsky, "Matrix factorization techniques for recommender systems" (IEEE Computer 2009),
    equation 4; for implicit feedback with the ranking loss of Rendle et al., "BPR" (UAI 2009).

    Synthetic users have real-valued rows rather than pairs to rank. They are fitted by least squares over all items, in
    closed form and without biases (:meth:`_fit_rows`); real users then get their vector from their history.

    Args:
        epochs: Maximum number of passes over the train rows; with validation rows, the best one counts. Default:
            100.
        patience: Epochs without a better validation metric after which training stops. Default: 10.
        metric: Validation metric. Default: 'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured after each epoch.
            Default: 50000.
        batch_size: Rows per step, over all workers. Default: 2048.
        learning_rate: Learning rate of Adam. Default: 0.005.
        betas: Decay rates of Adam's two moments. Default: (0.9, 0.999).
        weight_decay: Weight decay of Adam: this times each parameter is added to its gradient. Default: 1e-06.
        seed: Random seed. Default: 0.
        device: Device for training; scoring uses a GPU if available, unless this is cpu. Default: 'auto'.
        objective: Training objective: implicit ranks rows above randomly drawn items; explicit minimises the
            squared error of the ratings (use metric=mse). Default: 'implicit'.
        negatives: Number of items drawn for each row (implicit). Default: 16.
        dropout: Dropout rate of the vectors. Default: 0.0.
        dim: Width of the vectors. Default: 64.
        shrinkage: λ on synthetic users, as a share of the smallest singular value kept. Default: 0.5.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        epochs: int = 100,
        patience: int = 10,
        metric: str = 'ndcg@10',
        validation_users: int = 50000,
        batch_size: int = 2048,
        learning_rate: float = 0.005,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-06,
        seed: int = 0,
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        objective: Literal['implicit', 'explicit'] = 'implicit',
        negatives: int = 16,
        dropout: float = 0.0,
        dim: int = 64,
        shrinkage: float = 0.5,
    ) -> None: ...


from distill_at_scale.models.neumf import NeuMF as _NeuMF


class NeuMF(_NeuMF):
    """score(u, i) = h · [p_u ⊙ q_i, MLP(p'_u, q'_i)].

    Source: He, Liao, Zhang, Nie, Hu, Chua, "Neural collaborative filtering" (WWW 2017), sections 3.2 to 3.4, with
    its log loss (equation 7); without its pre-training of the two halves.

    Args:
        epochs: Maximum number of passes over the train rows; with validation rows, the best one counts. Default:
            100.
        patience: Epochs without a better validation metric after which training stops. Default: 10.
        metric: Validation metric. Default: 'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured after each epoch.
            Default: 50000.
        batch_size: Rows or users per step, over all workers. Default: 1024.
        learning_rate: Learning rate of Adam. Default: 0.001.
        betas: Decay rates of Adam's two moments. Default: (0.9, 0.999).
        weight_decay: Weight decay of Adam: this times each parameter is added to its gradient. Default: 0.0.
        seed: Random seed. Default: 0.
        device: Device for training; scoring uses a GPU if available, unless this is cpu. Default: 'auto'.
        objective: Training objective: implicit ranks rows above randomly drawn items; explicit minimises the
            squared error of the ratings (use metric=mse). Default: 'implicit'.
        negatives: Number of items drawn for each row (implicit). Default: 4.
        dropout: Dropout rate of the vectors. Default: 0.0.
        dim: Width of each of the two vectors of a user and an item. Default: 32.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        epochs: int = 100,
        patience: int = 10,
        metric: str = 'ndcg@10',
        validation_users: int = 50000,
        batch_size: int = 1024,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        seed: int = 0,
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        objective: Literal['implicit', 'explicit'] = 'implicit',
        negatives: int = 4,
        dropout: float = 0.0,
        dim: int = 32,
    ) -> None: ...


from distill_at_scale.models.mvae import MVAE as _MVAE


class MVAE(_MVAE):
    """A variational autoencoder with a multinomial likelihood, Mult-VAE.

    ``likelihood=hidden``, this project's default: dropout splits a user's items x into a part g for the encoder and the
    rest h; maximises E_q(z|g)[1/|h| Σ_{i in h} log softmax_{not in g}(f(z))_i] − β KL(q(z|g) ‖ N(0, 1)). This matches
    the evaluation, which asks for items that the input lacks. ``likelihood=all``:
    E_q(z|x)[Σ_{i in x} log softmax(f(z))_i] − β KL(q(z|x) ‖ N(0, 1)).

    Source: Liang, Krishnan, Hoffman, Jebara, "Variational autoencoders for collaborative filtering" (WWW 2018),
    equations 2, 3, 7 and section 2.2.2 (annealing). The paper's model: likelihood=all decoder_hidden=600 dropout=0.5
    beta=0.2 learning_rate=0.001 and an annealing that suits the log.

    Practical limits: any number of users; a step holds batch_size × items numbers a few times, so up to some
    hundred thousand items.

    Args:
        epochs: Maximum number of passes over the users; with validation rows, the best one counts. Default: 200.
        patience: Epochs without a better validation metric after which training stops. Default: 20.
        metric: Validation metric. Default: 'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured after each epoch.
            Default: 50000.
        batch_size: Users per step, over all workers. Default: 200.
        learning_rate: Learning rate of Adam. Default: 0.002.
        betas: Decay rates of Adam's two moments. Default: (0.9, 0.999).
        weight_decay: Weight decay of Adam: this times each parameter is added to its gradient. Default: 0.0.
        seed: Random seed. Default: 0.
        device: Device for training; scoring uses a GPU if available, unless this is cpu. Default: 'auto'.
        likelihood: Items of the likelihood: hidden, those that dropout hides from the encoder, averaged over a
            user's; or all of a user's, summed (the paper's). Default: 'hidden'.
        hidden: Width of the encoder's hidden layer. Default: 600.
        decoder_hidden: Width of the decoder's hidden layer; 0: no hidden layer. Default: 0.
        latent: Width of z. Default: 200.
        dropout: Dropout rate of the input. Default: 0.3.
        beta: Final weight of the KL divergence, relative to the likelihood as counted by ``likelihood``. Default:
            0.01.
        anneal_epochs: Epochs in which the weight of the divergence rises from 0 to ``beta``. Default: 10.0.
        row_steps: Training steps on synthetic users, instead of epochs; the weight of the divergence rises over
            the first half. Default: 160.
        row_learning_rate: Learning rate of Adam on synthetic users. Default: 0.003.
        row_dropout: Dropout rate on synthetic users, whose likelihood is over all items regardless of
            ``likelihood``. Default: 0.5.
        row_beta: Value of beta on synthetic users. Default: 0.2.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        epochs: int = 200,
        patience: int = 20,
        metric: str = 'ndcg@10',
        validation_users: int = 50000,
        batch_size: int = 200,
        learning_rate: float = 0.002,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        seed: int = 0,
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        likelihood: Literal['hidden', 'all'] = 'hidden',
        hidden: int = 600,
        decoder_hidden: int = 0,
        latent: int = 200,
        dropout: float = 0.3,
        beta: float = 0.01,
        anneal_epochs: float = 10.0,
        row_steps: int = 160,
        row_learning_rate: float = 0.003,
        row_dropout: float = 0.5,
        row_beta: float = 0.2,
    ) -> None: ...


from distill_at_scale.models.svae import SVAE as _SVAE


class SVAE(_SVAE):
    """At every step t: maximises the mean of log softmax(f(z_t))_i over the next k items, less β KL(q(z_t) ‖ N(0, 1)).

    Source: Sachdeva, Manco, Ritacco, Pudi, "Sequential variational autoencoders for collaborative filtering"
    (WSDM 2019), section 3.

    Practical limits: any number of users; a step holds the scores of all items for every position of its sequences, so
    up to some hundred thousand items (smaller batch_size for more).

    Args:
        epochs: Maximum number of passes over the train rows; with validation rows, the best one counts. Default:
            100.
        patience: Epochs without a better validation metric after which training stops. Default: 10.
        metric: Validation metric. Default: 'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured after each epoch.
            Default: 50000.
        batch_size: Users per step, over all workers. Default: 64.
        learning_rate: Learning rate of Adam. Default: 0.001.
        betas: Decay rates of Adam's two moments. Default: (0.9, 0.999).
        weight_decay: Weight decay of Adam: this times each parameter is added to its gradient. Default: 0.0.
        seed: Random seed. Default: 0.
        device: Device for training; scoring uses a GPU if available, unless this is cpu. Default: 'auto'.
        dim: Width of the item vectors. Default: 128.
        hidden: Width of the recurrent state, and of the layers around z. Default: 200.
        latent: Width of z. Default: 64.
        length: Number of most recent items of a history that are read. Default: 100.
        ahead: k, the number of following items that every step predicts. Default: 4.
        dropout: Dropout rate of the item vectors. Default: 0.3.
        beta: Final weight of the KL divergence. Default: 0.2.
        anneal_epochs: Epochs in which the weight of the divergence rises from 0 to ``beta``. Default: 20.0.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        epochs: int = 100,
        patience: int = 10,
        metric: str = 'ndcg@10',
        validation_users: int = 50000,
        batch_size: int = 64,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        seed: int = 0,
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        dim: int = 128,
        hidden: int = 200,
        latent: int = 64,
        length: int = 100,
        ahead: int = 4,
        dropout: float = 0.3,
        beta: float = 0.2,
        anneal_epochs: float = 20.0,
    ) -> None: ...


from distill_at_scale.models.sasrec import SASRec as _SASRec


class SASRec(_SASRec):
    """Scores all items from the state after the newest item.

    Source: Kang, McAuley, "Self-attentive sequential recommendation" (ICDM 2018), section III; trained with
    cross-entropy over all items instead of one sampled negative, which is known to matter more than other choices
    (Klenitskiy, Vasilev, "Turning dross into gold loss", RecSys 2023).

    Args:
        epochs: Maximum number of passes over the train rows; with validation rows, the best one counts. Default:
            100.
        patience: Epochs without a better validation metric after which training stops. Default: 10.
        metric: Validation metric. Default: 'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured after each epoch.
            Default: 50000.
        batch_size: Users per step, over all workers. Default: 128.
        learning_rate: Learning rate of Adam. Default: 0.001.
        betas: Decay rates of Adam's two moments. Default: (0.9, 0.999).
        weight_decay: Weight decay of Adam: this times each parameter is added to its gradient. Default: 0.0.
        seed: Random seed. Default: 0.
        device: Device for training; scoring uses a GPU if available, unless this is cpu. Default: 'auto'.
        dim: Width of the item vectors and of the states. Default: 64.
        length: Number of most recent items of a history that are read. Default: 50.
        dropout: Dropout rate of item vectors and within the layers. Default: 0.5.
        blocks: Number of attention layers. Default: 2.
        heads: Number of attention heads per layer; must divide dim. Default: 1.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        epochs: int = 100,
        patience: int = 10,
        metric: str = 'ndcg@10',
        validation_users: int = 50000,
        batch_size: int = 128,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        seed: int = 0,
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        dim: int = 64,
        length: int = 50,
        dropout: float = 0.5,
        blocks: int = 2,
        heads: int = 1,
    ) -> None: ...


from distill_at_scale.models.gru4rec import GRU4Rec as _GRU4Rec


class GRU4Rec(_GRU4Rec):
    """Scores all items from the state after the newest item.

    Source: Hidasi, Karatzoglou, Baltrunas, Tikk, "Session-based recommendations with recurrent neural networks"
    (ICLR 2016); trained with cross-entropy over all items instead of its sampled ranking losses.

    Args:
        epochs: Maximum number of passes over the train rows; with validation rows, the best one counts. Default:
            100.
        patience: Epochs without a better validation metric after which training stops. Default: 10.
        metric: Validation metric. Default: 'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured after each epoch.
            Default: 50000.
        batch_size: Users per step, over all workers. Default: 128.
        learning_rate: Learning rate of Adam. Default: 0.001.
        betas: Decay rates of Adam's two moments. Default: (0.9, 0.999).
        weight_decay: Weight decay of Adam: this times each parameter is added to its gradient. Default: 0.0.
        seed: Random seed. Default: 0.
        device: Device for training; scoring uses a GPU if available, unless this is cpu. Default: 'auto'.
        dim: Width of the item vectors and of the states. Default: 64.
        length: Number of most recent items of a history that are read. Default: 50.
        dropout: Dropout rate on item vectors and states. Default: 0.3.
        hidden: Width of the recurrent state. Default: 128.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        epochs: int = 100,
        patience: int = 10,
        metric: str = 'ndcg@10',
        validation_users: int = 50000,
        batch_size: int = 128,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        seed: int = 0,
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        dim: int = 64,
        length: int = 50,
        dropout: float = 0.3,
        hidden: int = 128,
    ) -> None: ...


from distill_at_scale.models.lightgcn import LightGCN as _LightGCN


class LightGCN(_LightGCN):
    """score(u, i) = e_u · e_i, e = mean of E, ÃE, …, Ã^K E over the normalised bipartite graph Ã.

    Source: He, Deng, Wang, Li, Zhang, Wang, "LightGCN" (SIGIR 2020), equations 3, 4, 7 and 8; its loss, equation 15
    (BPR), is ``loss=sampled negatives=1``. The default loss, :func:`unseen_softmax`, is this project's choice.

    Practical limits: as for the other pairwise models. In addition, every worker holds the graph of all train rows, 16
    bytes per edge and direction, and smooths all vectors at every step: workers share only the rows. A step of
    ``loss=full`` holds batch_size × items scores a few times; use sampled for some hundred thousand items.

    Args:
        epochs: Maximum number of passes over the train rows; with validation rows, the best one counts. Default:
            200.
        patience: Epochs without a better validation metric after which training stops. Default: 10.
        metric: Validation metric. Default: 'ndcg@10'.
        validation_users: Maximum number of users, drawn by hash, on whom the metric is measured after each epoch.
            Default: 50000.
        batch_size: Batch size over all workers: users (full), or rows (sampled and explicit; use some thousands).
            Default: 512.
        learning_rate: Learning rate of Adam. Default: 0.03.
        betas: Decay rates of Adam's two moments. Default: (0.9, 0.999).
        weight_decay: Weight decay of Adam: this times each parameter is added to its gradient. Default: 0.0.
        seed: Random seed. Default: 0.
        device: Device for training; scoring uses a GPU if available, unless this is cpu. Default: 'auto'.
        objective: Training objective: implicit ranks rows above randomly drawn items; explicit minimises the
            squared error of the ratings (use metric=mse). Default: 'implicit'.
        negatives: Number of items drawn for each row (sampled). Default: 16.
        dropout: Dropout rate of the vectors. Default: 0.0.
        dim: Width of the vectors. Default: 64.
        layers: K, the number of propagation layers. Default: 3.
        loss: Implicit loss: full ranks each row above all items that its user lacks, in steps of users; sampled
            ranks it above a few drawn items, in steps of rows, and is the paper's BPR with negatives=1. Each step
            smooths the whole graph, so full, which learns more per step, needs fewer steps. Default: 'full'.
    """
    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        epochs: int = 200,
        patience: int = 10,
        metric: str = 'ndcg@10',
        validation_users: int = 50000,
        batch_size: int = 512,
        learning_rate: float = 0.03,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        seed: int = 0,
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        objective: Literal['implicit', 'explicit'] = 'implicit',
        negatives: int = 16,
        dropout: float = 0.0,
        dim: int = 64,
        layers: int = 3,
        loss: Literal['full', 'sampled'] = 'full',
    ) -> None: ...
