"""Completion as a shell asks for it: by variables, without importing what is large."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_kit import Das

from distill_at_scale.registry import MODELS

Ask = Callable[..., list[str]]


@pytest.fixture
def ask(das: Das, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The proposals for the last of some words, which is empty behind a blank."""

    def ask(words: str, shell: str = "bash") -> list[str]:
        variables = {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        if shell == "bash":
            variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        for name, value in {"_DAS_COMPLETE": f"complete_{shell}", **variables}.items():
            monkeypatch.setenv(name, value)
        said = das()
        assert (said.code, said.err) == (0, "")
        return said.out.split()

    return ask


@pytest.mark.parametrize(
    ("words", "proposals"),
    [
        ("das sw", ["sweep"]),
        ("das genie ", ["train"]),
        ("das fit --model e", ["ease", "elsa"]),
        ("das sample --data d --sampler svp_bias_u", ["svp_bias_users", "svp_bias_users_prop"]),
        ("das sweep --models ease,mf,s", ["ease,mf,svd_ae", "ease,mf,svae", "ease,mf,sasrec"]),
        ("das sweep --models ease s", ["svd_ae", "svae", "sasrec"]),
        ("das sweep --methods sk", ["sketch"]),
        ("das prepare --split ", ["leave_2", "20_percent_hist", "temporal", "column"]),
        ("das compare --metrics ndcg", ["ndcg@10", "ndcg@100"]),
        ("das fetch ml-1", ["ml-100k", "ml-1m"]),
        ("das settings farz", ["farzi"]),
        ("das evaluate --sp", ["--split"]),
    ],
)
def test_values(ask: Ask, words: str, proposals: list[str]) -> None:
    assert ask(words) == proposals


def test_other_shells(ask: Ask) -> None:
    assert ask("das sweep --models ease s", "fish") == ["svd_ae", "svae", "sasrec"]
    assert '"ease"' in "".join(ask("das fit --model e", "zsh"))


def test_installing(das: Das, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert "_DAS_COMPLETE=complete_zsh" in das("--show-completion", "zsh").out
    assert "completion installed" in das("--install-completion", "bash").out
    assert "_DAS_COMPLETE=complete_bash" in (tmp_path / ".bash_completions" / "das.sh").read_text()


def test_nothing_large_is_imported() -> None:
    script = """
import os, sys
os.environ.update(_DAS_COMPLETE="complete_bash", COMP_WORDS="das fit --model ", COMP_CWORD="3")
from distill_at_scale.__main__ import main
try:
    main()
except SystemExit:
    pass
print([name for name in ("ray", "torch", "polars", "pyarrow", "scipy", "numpy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*MODELS, "[]"]
