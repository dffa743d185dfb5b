"""What holds for all gradient-trained models: going on after a kill, early stopping, settings, a fresh process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import blocks, make_rows
from recommend_kit import make_dataset

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models import MODELS, create_model
from distill_at_scale.models.training.batches import PairExamples, SequenceExamples, pad_left
from distill_at_scale.models.training.schedule import rate_share
from distill_at_scale.models.training.sources import MemorySource, ShardSource
from distill_at_scale.models.training.torch_model import TorchRecommender
from distill_at_scale.models.training.trainer import Trainer

TRAINED = [name for name, model in MODELS.items() if issubclass(model, TorchRecommender)]
SMALL: dict[str, dict[str, Any]] = {
    "bias": {},
    "mf": {"dim": 4},
    "elsa": {"dim": 4},
    "neumf": {"dim": 4},
    "mvae": {"hidden": 8, "latent": 4},
    "svae": {"dim": 8, "hidden": 8, "latent": 4, "length": 5},
    "sasrec": {"dim": 8, "length": 5},
    "gru4rec": {"dim": 8, "hidden": 8, "length": 5},
    "lightgcn": {"dim": 4},
}
COMMON = {"epochs": 3, "batch_size": 12, "device": "cpu", "metric": "ndcg@3", "schedule": "linear"}


def make_trainer(name: str, **changes: Any) -> tuple[TorchRecommender, Trainer]:
    model = create_model(name, {**SMALL[name], **COMMON, **changes})
    assert isinstance(model, TorchRecommender)
    return model, Trainer(model, MemorySource(*blocks()), torch.device("cpu"))


def test_all_are_tried_here() -> None:
    assert sorted(TRAINED) == sorted(SMALL)


def test_a_linear_schedule_rises_over_a_tenth_and_falls_to_zero() -> None:
    shares = np.array([rate_share("linear", k, 40) for k in range(40)])
    np.testing.assert_allclose(shares[:4], np.array([0.25, 0.5, 0.75, 1]) * (1 - np.arange(4) / 40))
    np.testing.assert_allclose(shares[4:], 1 - np.arange(4, 40) / 40)
    assert [rate_share("constant", k, 3) for k in range(3)] == [1, 1, 1]
    # A training shorter than ten steps begins at the full rate.
    assert rate_share("linear", 0, 3) == 1


def test_steps_take_the_rate_of_the_schedule() -> None:
    _, trainer = make_trainer("bias")
    rates = []
    trainer.run(after_step=lambda: rates.append(trainer._optimizer.param_groups[0]["lr"]))
    n_steps = 3 * trainer.steps_per_epoch
    rate = trainer._config.learning_rate
    assert rates == [rate * rate_share("linear", k, n_steps) for k in range(n_steps)]


def test_progress_tells_of_every_step_and_of_the_pieces_that_are_validated_on(tmp_path: Path) -> None:
    _, trainer = make_trainer("bias")
    told: list[tuple[float, str]] = []
    trainer.run(lambda share, what: told.append((share, what)))
    of_an_epoch = trainer.steps_per_epoch + 1
    assert len(told) == 3 * of_an_epoch
    assert [what for _, what in told[of_an_epoch - 2 : of_an_epoch + 1]] == [
        "epoch 1",
        "epoch 1, validating",
        "epoch 2",
    ]
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    model = create_model("bias", {**COMMON, "epochs": 1})
    assert isinstance(model, TorchRecommender)
    told.clear()
    dataset = make_dataset(tmp_path)
    Trainer(model, ShardSource(dataset), torch.device("cpu")).run(lambda share, what: told.append((share, what)))
    n = len(dataset.shards)
    assert [what for _, what in told[-n:]] == [f"epoch 1, validating {k + 1}/{n}" for k in range(n)]


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_stopped_again_and_again_ends_with_the_same_bits(name: str) -> None:
    _, undisturbed = make_trainer(name)
    undisturbed.run()
    state: bytes | None = None
    n_runs = 0
    while True:
        _, trainer = make_trainer(name)
        if state is not None:
            trainer.restore(state)
        steps = 0

        def die(trainer: Trainer = trainer) -> None:
            nonlocal state, steps
            steps += 1
            if steps == 4:
                state = trainer.state()
                raise InterruptedError

        n_runs += 1
        try:
            trainer.run(after_step=die)
        except InterruptedError:
            continue
        break
    assert n_runs > 2
    assert trainer.cpu_s > trainer.earlier_cpu_s > 0  # the lives before count
    expected = undisturbed.module.state_dict()
    for key, value in trainer.module.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert [p.metric for p in trainer.points] == [p.metric for p in undisturbed.points]


def test_training_stops_when_it_brings_nothing_and_the_best_is_kept() -> None:
    train, heldout = blocks()
    settings = {**SMALL["mf"], **COMMON, "epochs": 60, "patience": 3, "learning_rate": 0.5, "schedule": "constant"}
    model = create_model("mf", settings).fit(train, heldout)
    record = model.selection
    assert record is not None
    assert len(record.points) == record.chosen + 3 < 60
    direct = create_model("mf", {**settings, "epochs": int(record.chosen)}).fit(train)
    np.testing.assert_array_equal(model.score(train), direct.score(train))


def test_a_diverging_loss_is_reported() -> None:
    rows = Interactions(
        np.arange(2), np.array([0, 1, 2]), np.array([0, 1], np.int32), 2, np.full(2, np.inf, np.float32)
    )
    with pytest.raises(DasError, match="bias: the loss became NaN or infinite in epoch 1; set a smaller learning_rate"):
        create_model("bias", {"objective": "explicit", "device": "cpu"}).fit(rows)


def test_training_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    create_model("mvae", {**SMALL["mvae"], **COMMON}).fit(blocks()[0])
    assert torch.equal(torch.rand(3), expected)


def test_another_seed_is_another_model() -> None:
    train, _ = blocks()
    one, other = (create_model("mf", {**SMALL["mf"], **COMMON, "seed": s}).fit(train).score(train) for s in (0, 1))
    assert np.abs(one - other).max() > 1e-3


def test_users_with_a_history_validate_and_only_some_are_drawn() -> None:
    _, trainer = make_trainer("mf", validation_users=20)
    train = make_rows([[0] if user % 3 else [] for user in range(9_000)])
    heldout = make_rows([[1] if user % 2 else [] for user in range(9_000)])
    chosen = trainer._validation_users(train, heldout)
    assert np.all(chosen % 3 * (chosen % 2) > 0)
    # The trainer's own rows have 42 users with a history, so 20 / 42 of any are drawn.
    assert abs(len(chosen) / 3_000 - 20 / 42) < 0.05


def test_rows_of_a_small_dataset_are_read_once(tmp_path: Path) -> None:
    source = ShardSource(make_dataset(tmp_path))
    first = [source.train(piece) for piece in range(3)]
    assert all(source.train(piece) is first[piece] for piece in range(3))


def test_negatives_know_what_was_seen() -> None:
    rows = make_rows([[0, 1, 1], [], [3]], n_items=4)
    examples = PairExamples(rows, 50)
    assert len(examples) == 3
    batch = examples.batch(np.arange(3), np.random.default_rng(0))
    seen = {(0, 0), (0, 1), (2, 3)}
    assert set(zip(batch["user"].tolist(), batch["item"].tolist())) == seen
    assert 0 <= int(batch["negative"].min()) <= int(batch["negative"].max()) < 4
    for k, user in enumerate(batch["user"].tolist()):
        for item, is_seen in zip(batch["negative"][k].tolist(), batch["seen"][k].tolist()):
            assert is_seen == ((user, item) in seen)


def test_epochs_are_different_orders_of_the_same() -> None:
    examples = SequenceExamples(make_rows([[0, 1]] * 50, n_items=2), 3)
    first, second = examples.order(0, 0), examples.order(0, 1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert (first != second).any()
    np.testing.assert_array_equal(first, examples.order(0, 0))


def test_padding_and_taking() -> None:
    rows = make_rows([[0, 1, 2], [], [3], [4, 5]], n_items=6)
    assert pad_left(rows, 2).tolist() == [[1, 2], [6, 6], [6, 3], [4, 5]]
    assert pad_left(make_rows([[]], n_items=6), 2).tolist() == [[6]]
    taken = rows.take(np.array([0, 3]), timestamps=False)
    assert taken.users.tolist() == [0, 3]
    assert taken.items.tolist() == [0, 1, 2, 4, 5]
    assert taken.offsets.tolist() == [0, 3, 5]


def test_a_fresh_process_scores_the_same(tmp_path: Path) -> None:
    train, _ = blocks()
    scores = {}
    for name in TRAINED:
        model = create_model(name, {**SMALL[name], **COMMON}).fit(train, item_space="fingerprint-1")
        model.save(str(tmp_path / name))
        scores[name] = model.score(train)
    code = (
        "import sys, numpy as np\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from contract import blocks\n"
        "from distill_at_scale.models import load_model\n"
        "for name in sys.argv[3:]:\n"
        "    model = load_model(f'{sys.argv[2]}/{name}')\n"
        "    np.save(f'{sys.argv[2]}/{name}.npy', model.score(blocks()[0]))\n"
        "    print(model.name, model.item_space)\n"
    )
    arguments = [str(Path(__file__).parent), str(tmp_path), *TRAINED]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [word for name in TRAINED for word in (name, "fingerprint-1")]
    for name in TRAINED:
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), scores[name])
