"""Distill-CF with differential privacy: what one user can change, the noise, and what of the log a result holds."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats
import torch
from distill_kit import LocalJob, grouped, signs_of_machines, together

from distill_at_scale.data.columns import Columns
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.distiller import Distilled
from distill_at_scale.distillation.distillers.distill_cf import DistillCFDistiller
from distill_at_scale.distillation.factored_rows import ItemVectors, hidden_squares, hidden_squares_each
from distill_at_scale.distillation.privacy import accountant, gradients, loop, start
from distill_at_scale.distillation.privacy.accountant import Budget, budget_of
from distill_at_scale.distillation.privacy.gradients import clipped_sum
from distill_at_scale.distillation.privacy.loop import PrivateDistillCF
from distill_at_scale.distillation.privacy.noise import Noise
from distill_at_scale.distillation.privacy.settings import Privacy
from distill_at_scale.distillation.privacy.start import noised_counts, noised_moment, private_start
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models.training.sources import MemorySource

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
from prepare_kit import inline_prepare, random_rows, write_logs

NOISY = Budget(0.5, 0.5, 8.0, "none")


def batch(seed: int = 0) -> tuple[torch.Tensor, ItemVectors, sp.csr_array, sp.csr_array]:
    """Z, V, inputs and hidden rows of nine users, the third of whom has far more rows."""
    rng = np.random.default_rng(seed)
    rows = (rng.random((9, 40)) < 0.2).astype(np.float32)
    rows[2] = 1.0
    hidden = rows * (rng.random(rows.shape) < 0.5)
    vectors = np.linalg.qr(rng.normal(size=(40, 4)))[0] + 0.1 * rng.normal(size=(40, 4))
    z = torch.from_numpy(rng.normal(size=(6, 4)))
    return z, ItemVectors(vectors), sp.csr_array(rows - hidden), sp.csr_array(hidden)


def config(**changes: Any) -> DistillCFConfig:
    return DistillCFConfig(users=6, rank=4, steps=6, privacy={"epsilon": 8, "batch_size": 10_000}, **changes)


def test_clipped_sums_are_those_of_one_user_after_the_other() -> None:
    z, vectors, inputs, hidden = batch()
    each = []
    for u in range(9):
        slopes = hidden_squares(z, -0.3, vectors, inputs[[u]], hidden[[u]])
        each.append(torch.cat((slopes.z.flatten(), slopes.z.new_tensor([slopes.log_lam]))))
    d_z, d_log_lam = hidden_squares_each(z, -0.3, vectors, inputs, hidden)
    torch.testing.assert_close(torch.cat((d_z.flatten(1), d_log_lam[:, None]), 1), torch.stack(each))
    norms = torch.stack(each).norm(dim=1)
    clip = float(norms.median())
    slow = sum(gradient * min(1.0, clip / float(norm)) for gradient, norm in zip(each, norms))
    total, cut = clipped_sum(z, -0.3, vectors, inputs, hidden, clip)
    torch.testing.assert_close(total, slow)
    assert cut == 4


def test_a_gradient_that_is_not_finite_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    z, vectors, inputs, hidden = batch()
    real = gradients.hidden_squares_each

    def overflowing(*args: Any) -> Any:
        d_z, d_log_lam = real(*args)
        d_z[2, 0] = math.inf
        d_log_lam[5] = math.nan
        return d_z, d_log_lam

    others = np.delete(np.arange(9), [2, 5])
    expected, _ = clipped_sum(z, 0.1, vectors, inputs[others], hidden[others], 1e-3)
    monkeypatch.setattr(gradients, "hidden_squares_each", overflowing)
    found, cut = clipped_sum(z, 0.1, vectors, inputs, hidden, 1e-3)
    torch.testing.assert_close(found, expected)
    assert cut == 9


def test_machines_whose_eigenvectors_differ_in_sign_start_as_one() -> None:
    with signs_of_machines():
        found = together(3, lambda users: private_start(users, 7, 4, 0.01, Noise(0), 0))
    for one in found:
        np.testing.assert_array_equal(one.rows.dense(), found[0].rows.dense())


@pytest.mark.parametrize("block", [1, 1 << 19])
def test_a_user_changes_a_step_by_at_most_the_clip(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_at_scale.distillation.privacy.gradients.BLOCK", block)
    z, vectors, inputs, hidden = batch()
    clip = 1e-3  # below every norm
    everyone, cut = clipped_sum(z, 0.1, vectors, inputs, hidden, clip)
    assert cut == 9
    for u in range(9):
        others = np.delete(np.arange(9), u)
        without, _ = clipped_sum(z, 0.1, vectors, inputs[others], hidden[others], clip)
        assert float((everyone - without).norm()) == pytest.approx(clip)


def test_a_user_changes_the_start_by_at_most_its_sensitivity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "MOST_ROWS", 8)
    train, _ = grouped()
    everyone = RealUsers(MemorySource(train, None))
    items, scale = np.arange(0, train.n_items, 2), start._OF_LENGTH / start.MOST_ROWS
    counts, moment = noised_counts(everyone, 0.0, Noise(0)), noised_moment(everyone, items, 0.0, Noise(0))
    reached = 0.0
    for u in range(5):
        others = RealUsers(MemorySource(train.take(np.delete(np.arange(len(train)), u)), None))
        others.n_users = everyone.n_users
        less = noised_counts(others, 0.0, Noise(0))
        rows = np.linalg.norm(counts[0] - less[0])
        length = (counts[1] - less[1]) * scale * everyone.n_users
        assert math.hypot(float(rows), length) <= math.hypot(1.0, start._OF_LENGTH) + 1e-9
        change = np.linalg.norm(moment - noised_moment(others, items, 0.0, Noise(0)))
        assert change <= 1 + 1e-9
        reached = max(reached, float(change))
    assert reached == pytest.approx(1.0)


def test_the_noise_of_the_start_has_its_deviation_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def noised(users: RealUsers) -> np.ndarray:
        return noised_moment(users, np.arange(users.n_items), 3.0, Noise(7, users.communicator.rank))

    exact = together(1, lambda users: noised_moment(users, np.arange(users.n_items), 0.0, Noise(7)))[0]
    for workers in (1, 3):
        noise = together(workers, noised)[0] - exact
        assert np.array_equal(noise, noise.T)
        beside = noise[np.triu_indices(len(noise), 1)]
        assert np.sqrt(np.mean(beside**2)) == pytest.approx(3.0 / math.sqrt(2.0), rel=0.1)


def test_noise_of_the_operating_system_is_normal_and_never_the_same() -> None:
    first, again = Noise().gaussian((4000,)), Noise().gaussian((4000,))
    assert scipy.stats.kstest(np.concatenate((first, again)), "norm").pvalue > 1e-6
    assert not np.array_equal(first, again)
    assert np.array_equal(Noise(3).gaussian((5, 2)), Noise(3).gaussian((5, 2)))


def test_workers_make_the_same_rows_and_add_noise_once() -> None:
    def run(users: RealUsers) -> np.ndarray:
        private = PrivateDistillCF(config(), users, budget=NOISY, noise=Noise(5, users.communicator.rank))
        private.run()
        return private.rows()[0].dense()

    alone = together(1, run)[0]
    for rows in together(3, run):
        np.testing.assert_allclose(rows, alone, atol=1e-5)


def test_a_resumed_run_goes_on_where_it_stood() -> None:
    users, silent = RealUsers(MemorySource(*grouped())), Budget(0.5, 0.0, 8.0, "none")
    whole = PrivateDistillCF(config(), users, budget=silent, noise=Noise(5))
    states: dict[int, bytes] = {}
    whole.run(after_step=lambda: states.update({whole.step: whole.state()}))
    again = PrivateDistillCF(config(), users, states[4])
    assert again.step == 4
    again.run()
    assert np.array_equal(again.rows()[0].z, whole.rows()[0].z)
    assert again.record() == whole.record()
    with pytest.raises(DasError, match="of a run with other settings"):
        PrivateDistillCF(config(seed=1), users, states[4])


def test_the_divisor_is_the_expected_number_of_users() -> None:
    users = RealUsers(MemorySource(*grouped()))
    privacy = Privacy(epsilon=8, batch_size=users.n_users // 4)
    made = config().model_copy(update={"privacy": privacy.model_dump(exclude_none=True), "steps": 1})
    assert privacy.sampling_rate(users.n_users) == pytest.approx(0.25, rel=0.05)
    drawn = []

    def seen(z: Any, log_lam: Any, vectors: Any, inputs: sp.csr_array, *rest: Any) -> tuple[torch.Tensor, int]:
        drawn.append(inputs.shape[0])
        return torch.zeros(z.numel() + 1, dtype=torch.float64), 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "clipped_sum", seen)
        for seed in range(40):
            PrivateDistillCF(made, users, budget=NOISY, noise=Noise(seed)).run()
    # Poisson: the numbers differ, and their mean is the rate.
    assert len(set(drawn)) > 5
    assert np.mean(drawn) == pytest.approx(0.25 * users.n_splittable, rel=0.15)


def test_a_private_result_holds_nothing_exact_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = write_logs(tmp_path, random_rows(5, 1500, 80, 40), 1)
    data = inline_prepare(input=logs, output=str(tmp_path / "data"), min_user=4)
    asked: list[tuple[float, ...]] = []

    def budget(*given: float) -> Budget:
        asked.append(given)
        return NOISY

    monkeypatch.setattr(loop, "budget_of", budget)
    monkeypatch.setattr(accountant, "require_accountant", lambda: None)
    monkeypatch.setattr(RealUsers, "validated", None)  # not called
    distiller = DistillCFDistiller(config())
    distiller.check(data, 1)
    job = LocalJob(data)
    made: Distilled = distiller.run(job)
    assert asked == [(8.0, 1e-3, 0.7, 1.0, 6)]
    assert job.kept[""][0] == 4
    assert made.privacy is not None
    asked = distiller.config.model_dump(mode="json")
    place = str(tmp_path / "made")
    written = synthetic.write(place, made, data, method="distill_cf", config=asked, cost={}, made_with={})
    opened = synthetic.SyntheticDataset.open(written.uri)
    opened.verify()
    m = opened.manifest
    assert m.privacy == made.privacy
    assert (m.parent.fingerprint, m.curve, m.chosen, m.contenders) == ("", [], {}, {})
    assert m.parent.n_rows != data.manifest.splits["train"]
    counts = opened.items()[Columns.TRAIN_COUNT].to_numpy()
    assert not np.array_equal(counts, data.train_counts())
    # The items are popular in both: the noise is small beside them.
    assert opened.items()[Columns.ITEM_ID].equals(data.item_ids())
    assert set(m.settings) == {"infinite_ae", "ease"}
    assert "ε = 8.00 and δ = 0.001" in made.privacy.sentence


def test_what_privacy_refuses(tmp_path: Path) -> None:
    for wrong in ({"rows": "binary"}, {"init": "kmeans"}, {"patience": 5}, {"hide": 0}):
        with pytest.raises(SettingError, match=f"privacy has its own start, rows and end; leave {next(iter(wrong))}"):
            DistillCFDistiller.create({"privacy": {"epsilon": 8}, **wrong})
    for given, message in (
        ({"delta": 1e-6}, "privacy needs epsilon, such as epsilon=8"),
        ({"epsilon": 8.0, "eps": 8.0}, "eps is not of privacy, which takes epsilon, delta"),
        ({"epsilon": -1.0}, r"epsilon -1.0 must be above 0\.$"),
    ):
        with pytest.raises(SettingError, match=message):
            DistillCFDistiller.create({"privacy": given})
    assert Privacy(epsilon=1).delta_of(6040) == pytest.approx(1e-5)
    with pytest.raises(SettingError, match=r"delta=0.01 is not below 1/users, 0.00017 with 6,040 users"):
        Privacy(epsilon=1, delta=0.01).delta_of(6040)


def test_a_missing_accountant_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accountant, "_PACKAGE", "no-such-accountant")
    with pytest.raises(DasError, match=r"--privacy needs no-such-accountant, .*distill-at-scale\[privacy\]"):
        accountant.require_accountant()


def test_the_accountant_finds_the_least_noise() -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed: pip install -e '.[privacy]'")
    budget = budget_of(8.0, 1e-5, 0.5, 0.3, 20)
    # Balle and Wang (ICML 2018), theorem 8: δ(ε) of one Gaussian mechanism.
    half, normal = 1 / (2 * budget.start), scipy.stats.norm.cdf
    delta = normal(half - 4 * budget.start) - math.exp(4) * normal(-half - 4 * budget.start)
    assert delta == pytest.approx(1e-5, rel=0.05)
    assert delta <= 1e-5
    assert 7.9 < budget.epsilon <= 8.0
    assert budget_of(2.0, 1e-5, 0.5, 0.3, 20).step > budget.step
    assert budget.accountant.startswith("dp-accounting ")


def test_a_plan_counts_private_rows_as_the_factors_they_are() -> None:
    def width(**settings: Any) -> int:
        return DistillCFDistiller.create(settings).planned_width(1_000_000)

    assert width() == 1_000_000
    assert width(rank=64) == 64
    assert width(privacy={"epsilon": 8}) == loop.RANK
    assert width(privacy={"epsilon": 8}, rank=4) == 4
