"""What is installed: the wheel's content and metadata, the tested versions, and what is said of a missing extra."""

from __future__ import annotations

import email
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import distill_at_scale as das
from distill_at_scale import extras
from distill_at_scale.data.readers import table_errors

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
CONSTRAINTS = [
    Requirement(line)
    for line in (REPOSITORY / "distill_at_scale" / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("flit_core", reason="flit_core is not installed: pip install -e '.[test]'")
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from flit_core import buildapi; print(buildapi.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return zipfile.ZipFile(folder / done.stdout.split()[-1])


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def test_the_wheel_has_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    package = REPOSITORY / "distill_at_scale"
    files = (file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    expected = {str(file.relative_to(REPOSITORY)) for file in files}
    names = set(wheel.namelist())
    assert {name for name in names if ".dist-info/" not in name} == expected
    for needed in ("py.typed", "LICENSE", "constraints.txt", "genie/trained/genie.json", "report/html/style.css"):
        assert f"distill_at_scale/{needed}" in names
    about = {name.split(".dist-info/")[1] for name in names - expected}
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/distill_at_scale/LICENSE"}


def test_the_metadata_say_version_licence_and_extras(metadata: Message) -> None:
    assert metadata["Version"] == das.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert metadata["Author"] or metadata["Author-email"]
    # PyPI refuses longer labels.
    assert all(len(url.split(",")[0]) <= 32 for url in metadata.get_all("Project-URL", []))


def test_there_is_one_version() -> None:
    """In the package's __init__, from where the build takes it and results are marked with it."""
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    runs = importlib.import_module("distill_at_scale.pipelines.runtime.run_record")
    assert runs.versions()["distill_at_scale"] == runs.made_with()["distill_at_scale"] == das.__version__


def test_what_is_tested_is_what_is_allowed() -> None:
    allowed = {Requirement(line).name: Requirement(line) for line in PROJECT["dependencies"]}
    optional = {Requirement(line).name: Requirement(line) for line in PROJECT["optional-dependencies"]["search"]}
    optional |= {Requirement(line).name: Requirement(line) for line in PROJECT["optional-dependencies"]["privacy"]}
    pinned = {one.name: next(iter(one.specifier)) for one in CONSTRAINTS}
    assert set(allowed) <= set(pinned)
    for name, pin in pinned.items():
        assert pin.operator == "=="
        assert (allowed | optional)[name].specifier.contains(pin.version), name


@pytest.mark.parametrize("name", ["ray", "torch"])
def test_these_tests_run_with_the_pinned_versions(name: str) -> None:
    (pin,) = [one.specifier for one in CONSTRAINTS if one.name == name]
    assert pin.contains(importlib.metadata.version(name))


def test_all_is_every_extra_for_users() -> None:
    (line,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(line).extras == set(PROJECT["optional-dependencies"]) - {"all", "test"}


def test_messages_name_extras_that_exist() -> None:
    """Every call of extras in the package, and every pip command in its texts."""
    text = "\n".join(file.read_text() for file in (REPOSITORY / "distill_at_scale").rglob("*.py"))
    named = set(re.findall(r"""\binstall\(["'](\w+)["']\)""", text))
    named |= set(re.findall(r"""\bmissing\([^)]*["'](\w+)["']\)""", text))
    # Readers of tables are named by the kind of the table.
    named |= set(table_errors._PARTS)
    assert {"delta", "mlflow", "search"} <= named
    assert named <= set(PROJECT["optional-dependencies"])
    # No text names a package that an extra brings.
    brought = {
        Requirement(one).name
        for extra in ("aws", "delta", "mlflow", "search")
        for one in PROJECT["optional-dependencies"][extra]
    }
    assert not re.findall(rf"pip install '?({'|'.join(brought)})\b", text)
    assert str(extras.missing("--search", "Optuna", "search")) == (
        "--search needs Optuna, which is not installed: pip install 'distill-at-scale[search]'."
    )


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = importlib.import_module("distill_at_scale.pipelines.sweeps.mlflow_runs")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(das.DasError, match=r"^--mlflow needs MLflow, .* 'distill-at-scale\[mlflow\]'\.$"):
        runs.open_runs("sqlite:///mlflow.db", "sweep")
