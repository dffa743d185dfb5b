"""Every verb at a keyboard: in a real terminal, with colours forced upon a pipe, and when it is interrupted."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import pytest
from system_kit import blocks_csv
from terminal_kit import DAS, Seen, in_pipe, in_terminal

import distill_at_scale
from distill_at_scale import signals
from distill_at_scale.cli.verbs import VERBS

EVERY_VERB = [sys.executable, str(Path(__file__).with_name("every_verb.py"))]
# The test run sets them for all of its processes; a user does not.
UNSET = {"POLARS_MAX_THREADS": None, "OMP_WAIT_POLICY": None}
FAILING = "0.0001"
# The training data of the Data-Genie that comes with the package; others would take three sweeps.
GENIE = str(Path(distill_at_scale.__file__).parent / "genie" / "trained")
# The quickstart takes a minute; .ci/run has it in a terminal. A job needs a dashboard; test_ray_head.py submits some.
ELSEWHERE = {"quickstart", "submit"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a name that is longer than a terminal is wide, and a log."""
    folder = tmp_path_factory.mktemp("terminal") / ("a folder with [brackets] and a long name " * 3).strip()
    folder.mkdir()
    (folder / "log.csv").write_bytes(blocks_csv())
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> str:
    """A dataset, made in a terminal by a process and a Ray of its own."""
    made = in_terminal([*DAS, "prepare", "--input", str(folder / "log.csv"), "--output", str(folder / "prepared")])
    assert made.code == 0, made.text
    well_shown(made)
    assert "starting Ray…" in made.text
    assert re.search(r"read the log +.* 1/1 +\d+ s", made.text)
    assert "WARNING" not in made.text, "a library that says something of its own"
    return str(folder / "prepared")


def lines_of_every_verb(folder: Path, output: Path) -> list[list[str]]:
    """One command line a verb, on a small log."""
    data, sample, sweep = f"{output}/data", f"{output}/samples/random-0.5", f"{output}/sweep"
    (folder / "gone.txt").write_text("u0\nu1\n")
    return [
        ["fetch", "ml-100k", "--output", f"{output}/fetched"],
        # So many parts that Ray Data does them, beside the live line.
        ["prepare", "--input", f"{folder}/log.csv", "--output", data, "--shards", "9"],
        ["inspect", data],
        ["fit", "--data", data, "--model", "ease", "--output", f"{output}/ease"],
        ["fit", "--data", data, "--model", "mf", "--output", f"{output}/mf", "--set", "epochs=2"],
        ["evaluate", "--data", data, "--model", f"{output}/ease", "--output", f"{output}/ease.json"],
        ["predict", "--data", data, "--model", f"{output}/ease", "--output", f"{output}/lists", "--similar-items"],
        ["sample", "--data", data, "--sampler", "random", "--budget", "0.5", "--output", f"{output}/samples"],
        ["attribute", "--data", data, "--model", "ease", "--output", f"{output}/values.parquet"],
        ["distill", "--data", data, "--users", "8", "--output", f"{output}/distilled", "--set", "steps=2"],
        ["forget", "--data", sample, "--users", f"{folder}/gone.txt", "--output", f"{output}/left"],
        ["export", "--data", f"{output}/distilled", "--output", f"{output}/exported.parquet"],
        ["export", "--data", sample, "--output", f"{output}/hub", "--format", "hf"],
        [
            *("forecast", "--data", data, "--models", "popularity,ease", "--up-to", "0.5", "--rungs", "3"),
            *("--output", f"{output}/forecast"),
        ],
        [
            *("tune", "--data", data, "--models", "popularity,svd_ae", "--search", "3"),
            *("--output", f"{output}/tuned"),
        ],
        ["expand", "--data", data, "--by", "2x2", "--output", f"{output}/larger"],
        ["compare", "--data", data, "--samples", sample, "--models", "popularity,ease", "--output", f"{output}/both"],
        # One budget is too small: its trials fail, and those of the other are shown all the same.
        [
            *("sweep", "--data", data, "--methods", "random", "--budgets", f"0.5,{FAILING}"),
            *("--models", "popularity,ease", "--output", sweep),
        ],
        ["report", "--sweep", sweep, "--output", f"{output}/report.html"],
        ["recommend", "--data", data, "--sweep", sweep],
        ["genie", "train", "--sweeps", GENIE, "--output", f"{output}/genie", "--kinds", "means"],
        ["settings", "mf"],
        ["doctor", "--address", "ADDRESS"],
    ]


def well_shown(seen: Seen) -> None:
    """What moves stays on lines of its own, and there is no traceback."""
    assert "Traceback" not in seen.text
    assert seen.screen.unknown == set()
    folded = [line for line in seen.screen.wrapped if re.search(r"\d+/\d+ (done|  )| running\b|━", line)]
    assert folded == []
    boards = re.findall(r"^\w[\w ]*: \d+/\d+ done.*$", "\n".join(seen.screen.lines), re.M)
    assert all(re.search(r"running|…$", line) for line in boards)
    # The cursor is shown again.
    assert seen.raw.count("\x1b[?25l") <= seen.raw.count("\x1b[?25h")


def check_every_verb(output: str, lines: list[list[str]]) -> None:
    """All ended well, but where a public log cannot be reached or the machine lacks what `das doctor` looks for."""
    assert {name for name in VERBS if any(line[: len(name.split())] == name.split() for line in lines)} == {
        *VERBS
    } - ELSEWHERE
    codes = re.findall(r"^== exit (.*?): das (\w+)", output, re.M)
    assert [verb for _, verb in codes] == [line[0] for line in lines], output[-4000:]
    for (code, verb), line in zip(codes, lines):
        allowed = {"1"} if f"0.5,{FAILING}" in line else {"0", "1"} if verb in ("fetch", "doctor") else {"0"}
        assert code in allowed, (line, re.findall(r"^error: .*$", output, re.M))
    assert "4 of 6 done, 2 failed" in output
    assert "Traceback" not in output


def copied(seen: Seen, *texts: str) -> None:
    """All these stand in one piece, which a terminal may have broken but the program has not."""
    for text in texts:
        assert text in seen.text, text


def test_every_verb_in_a_terminal(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "every"
    every_verb_in_a_terminal(folder, output, 80)


@pytest.mark.slow
def test_every_verb_in_a_wide_terminal(folder: Path, tmp_path: Path) -> None:
    every_verb_in_a_terminal(folder, tmp_path / "every", 140)


def every_verb_in_a_terminal(folder: Path, output: Path, columns: int) -> None:
    output.mkdir()
    lines = lines_of_every_verb(folder, output)
    (output / "lines.json").write_text(json.dumps(lines))
    seen = in_terminal([*EVERY_VERB, str(output / "lines.json")], columns, env=UNSET)
    assert seen.code == 0, seen.text
    assert re.findall(r"^== (\w+: .*, workers .*)$", seen.text, re.M) == [
        "POLARS_MAX_THREADS: untouched, workers 1",
        "OMP_WAIT_POLICY: untouched, workers PASSIVE",
    ]
    assert "== Ray Data: not loaded\n" in seen.text
    well_shown(seen)
    check_every_verb(seen.text, lines)
    copied(
        seen,
        f"{output}/data\n",
        f"rows from {folder}/log.csv\n",
        f"{output}/ease\n",
        f"{output}/lists\n",
        f'polars.read_parquet("{output}/lists/predictions")\n',
        f"{output}/samples/random-0.5\n",
        f"das fit --data {output}/distilled --model infinite_ae --output MODEL\n",
        f"{output}/exported.parquet\n",
        f"{output}/hub\n",
        f"Every trial is a row of {output}/sweep/trials.parquet.",
        f"das report --sweep {output}/sweep --output report.html",
        f"{output}/report.html\n",
    )


@pytest.mark.slow
def test_every_verb_with_colours_in_a_pipe(folder: Path, tmp_path: Path) -> None:
    """FORCE_COLOR makes rich take any output for a terminal."""
    lines = lines_of_every_verb(folder, tmp_path)
    (tmp_path / "lines.json").write_text(json.dumps(lines))
    done = in_pipe([*EVERY_VERB, str(tmp_path / "lines.json")], env={"FORCE_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    check_every_verb(done.stdout, lines)
    assert "Traceback" not in done.stderr
    # Colours, but nothing that moves.
    assert not re.search(r"\x1b\[[?\d;]*[^m?\d;]", done.stderr)


def interrupted(seen: Seen) -> None:
    assert seen.code == signals.CODE, seen.text
    assert [line for line in seen.screen.lines if line.strip()][-1].rstrip() == signals.MESSAGE
    well_shown(seen)
    assert seen.alive() == []


LONG = ("gru4rec.epochs=50000", "gru4rec.patience=50000")


def sweep_of_long_fits(data: str, output: Path) -> list[str]:
    methods = ("--methods", "random", "--budgets", "0.5", "--models", "popularity,gru4rec")
    return [*DAS, "sweep", "--data", data, *methods, "--set", *LONG, "--output", str(output)]


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep(data: str, tmp_path: Path) -> None:
    seen = in_terminal(sweep_of_long_fits(data, tmp_path / "sweep"), when="best ndcg")
    interrupted(seen)
    assert len(seen.family) > 4, "Ray ran"
    # What was measured is kept, what was not is done by the next run.
    assert len(list((tmp_path / "sweep" / "trained").rglob("*.json"))) in (1, 2)


@pytest.mark.slow
def test_sigterm_ends_a_sweep(data: str, tmp_path: Path) -> None:
    interrupted(in_terminal(sweep_of_long_fits(data, tmp_path / "sweep"), when="best ndcg", send=signal.SIGTERM))


@pytest.mark.slow
def test_sigterm_ends_predict_and_the_next_run_finishes(data: str, tmp_path: Path) -> None:
    model, output = str(tmp_path / "ease"), str(tmp_path / "lists")
    assert in_terminal([*DAS, "fit", "--data", data, "--model", "ease", "--output", model]).code == 0
    command = [*DAS, "predict", "--data", data, "--model", model, "--output", output]
    interrupted(in_terminal(command, when="starting Ray", send=signal.SIGTERM))
    assert not Path(output, "predictions.json").exists()
    assert in_terminal(command).code == 0
    assert {path.name for path in Path(output).iterdir()} == {"predictions", "predictions.json", "run.json"}


@pytest.mark.parametrize("send", [None, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_ends_a_verb_while_ray_starts(send: signal.Signals | None, folder: Path, tmp_path: Path) -> None:
    command = [*DAS, "prepare", "--input", str(folder / "log.csv"), "--output", str(tmp_path / "data")]
    interrupted(in_terminal(command, when="starting Ray", send=send))


@pytest.mark.slow
@pytest.mark.parametrize("send", [None, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize(
    ("command", "when"),
    [
        ("fit --data DATA --model gru4rec --set epochs=50000 --output OUT", "fit gru4rec"),
        ("fit --data DATA --model gru4rec --set epochs=50000 --output OUT --workers 2", "fit gru4rec"),
        ("compare --data DATA --samples DATA --models ease,gru4rec --set gru4rec.epochs=50000 --output OUT", "1/"),
        ("distill --data DATA --users 20 --set steps=100000 --output OUT", "distill"),
        (
            "sweep --data DATA --methods random --budgets 0.5 --models ease,gru4rec --search 4 "
            "--set gru4rec.epochs=50000 --output OUT",
            "1 running",
        ),
    ],
    ids=["fit", "fit by two", "compare", "distill", "search"],
)
def test_a_signal_ends_a_verb(command: str, when: str, send: signal.Signals | None, data: str, tmp_path: Path) -> None:
    if "--search" in command:
        pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")
    words = [word.replace("DATA", data).replace("OUT", str(tmp_path / "out")) for word in command.split()]
    interrupted(in_terminal([*DAS, *words], when=when, send=send))
