"""What all tests share: quiet, small, private surroundings and one local Ray (one in each process of the run).

The environment is set while pytest collects, before anything imports Ray, Polars or a BLAS: they read it once.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, and no time limit an example: tests assert no times.
settings.register_profile("das", deadline=None, derandomize=True)
settings.load_profile("das")

REPOSITORY = Path(__file__).resolve().parents[1]

# Sockets live below Ray's temporary folder, and their paths may be 107 bytes long at most: hence a short name.
RUN_FOLDER = Path(tempfile.mkdtemp(prefix="das-", dir="/tmp"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# From the first import on, S3 means the run's own server (tests/system/ starts it when it is needed): workers
# inherit the environment of the Ray they belong to, and no test can reach a developer's real account.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]
os.environ.update(
    AWS_ACCESS_KEY_ID="test-" + os.urandom(8).hex(),
    AWS_SECRET_ACCESS_KEY=os.urandom(20).hex(),
    AWS_REGION="us-east-1",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_ENDPOINT_URL=f"http://127.0.0.1:{_free_port()}",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
)

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_DATA_DISABLE_PROGRESS_BARS="1",
    # Workers run at nice 15 otherwise, behind everything else on the machine.
    RAY_worker_niceness="0",
    # Nobody takes this machine away: one process less for every run of Ray Train.
    RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0",
    # A token that the developer keeps in ~/.ray must neither be used nor switch authentication on here.
    RAY_AUTH_MODE="disabled",
    RAY_AUTH_TOKEN_PATH=str(RUN_FOLDER / "no-token"),
    OMP_NUM_THREADS="1",
    # Threads that wait give their core away: the run has more processes than the machine has cores.
    OMP_WAIT_POLICY="PASSIVE",
    POLARS_MAX_THREADS="1",
    DAS_HOME=str(RUN_FOLDER / "home"),
    # Tasks run in other processes and in other folders: they find the package here, installed or not.
    PYTHONPATH=os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
)
for _name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
    os.environ.pop(_name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the files out: those that use Ray, which take longest and wait most, come first."""
    items.sort(
        key=lambda item: item.path.parent.name not in ("pipelines", "system") and "notebooks" not in item.path.name
    )


@pytest.fixture(scope="session")
def run_folder() -> Path:
    """A short-named folder of this test run, removed at its end."""
    return RUN_FOLDER


@pytest.fixture(scope="session")
def ray_session(run_folder: Path) -> Iterator[None]:
    """One local Ray (2 logical CPUs) for all tests of a process; they only use it, they never shut it down."""
    import ray

    from distill_at_scale.pipelines.runtime import session

    # As verbs start it: tried again where the run keeps all cores so busy that Ray takes too long.
    session._start(
        {
            "num_cpus": 2,
            "include_dashboard": False,
            "object_store_memory": 300_000_000,
            "log_to_driver": False,
            "_temp_dir": str(run_folder / "ray"),
        }
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real logs (``DAS_SHARED_DATA``, or ``../shared/data`` beside the repository)."""
    folder = Path(os.environ.get("DAS_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data not found: no folder {folder}; set DAS_SHARED_DATA")
    return folder


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves nothing behind."""
    shutil.rmtree(RUN_FOLDER, ignore_errors=True)
