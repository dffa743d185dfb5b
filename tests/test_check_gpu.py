"""jobs/check_gpu.py on the CPU: all paths pass, and one that is wrong is found."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from distill_at_scale.distillation.adjoint import Adam

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_gpu", REPOSITORY / "jobs" / "check_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["check_gpu"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CPU = ["--device", "cpu"]


def run(script: ModuleType, file: Path, *parts: str) -> tuple[int, dict[str, Any]]:
    code = script.main([*CPU, *(word for part in parts for word in ("--only", part)), "--json", str(file)])
    return code, json.loads(file.read_text())


def test_the_fast_parts_pass_on_the_cpu(script: ModuleType, tmp_path: Path) -> None:
    code, report = run(script, tmp_path / "gpu.json", "kernels", "distill_cf", "farzi")
    assert code == 0, [check for check in report["checks"] if not check["ok"]]
    assert report["passed"] == len(report["checks"]) == 17
    # Float32 or bfloat16 beside float64, or two computations: no check compares a thing with itself.
    assert all(check["difference"] > 0 for check in report["checks"])


@pytest.mark.slow
def test_all_of_it_passes_on_the_cpu(script: ModuleType, tmp_path: Path) -> None:
    code, report = run(script, tmp_path / "gpu.json")
    assert code == 0, [check for check in report["checks"] if not check["ok"]]
    assert {row["loop"].partition(":")[0] for row in report["speed"]} == {"Farzi", "Distill-CF", *script.zoo()}
    assert [row["ratio"] > 0 for row in report["speed"] if "ratio" in row] == [True]


def test_a_wrong_path_is_found(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Adam.back

    def wrong(self: Adam, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        gradient_bar, rate_bar = right(self, *arguments)
        return 1.001 * gradient_bar, rate_bar

    monkeypatch.setattr(Adam, "back", wrong)
    monkeypatch.setattr(script, "STUDENTS", ["sasrec"])
    code, report = run(script, tmp_path / "gpu.json", "farzi")
    assert code == 1
    wrong_ones = [check["path"] for check in report["checks"] if not check["ok"]]
    assert wrong_ones == ["adjoint of Adam, sasrec, float64"]


def test_states_and_items_may_be_of_different_types(script: ModuleType) -> None:
    """As in mixed precision, where a GRU's states come in bfloat16 and the items' table is float32."""
    bench = script.make_bench(torch.device("cpu"), script.SIZES["small"])
    for model in ("gru4rec", "sasrec"):
        found = script.step_gradient(bench, model, torch.float32, torch.device("cpu"), mixed=True)
        single = script.step_gradient(bench, model, torch.float32, torch.device("cpu"), mixed=False)
        assert 0 < script.relative(found, single) < 0.1


def test_without_a_gpu_it_is_one_sentence(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert script.main([]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: torch finds no GPU here; run on a machine with one, or set --device cpu."
    ]
