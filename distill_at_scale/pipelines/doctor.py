"""``das doctor``: looks at this machine, its storage and a Ray cluster, and reports problems with their fixes.

It changes nothing but a probe file of a few bytes in the storage that it is given, and shows no secret: of the
environment only the names of variables.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from distill_at_scale.config import DoctorConfig
from distill_at_scale.data import storage
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.fetch import default_home, find_pip
from distill_at_scale.pipelines.runtime import knock, versions
from distill_at_scale.pipelines.runtime.ray_probe import probe_ray
from distill_at_scale.pipelines.runtime.verb import verb

DISTRIBUTION = "distill-at-scale"
_GIB = 1 << 30
_MEMORY = 4 * _GIB
_DISK = 10 * _GIB
# AWS's own names; of these the doctor says only whether they are set.
_S3_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)


@dataclass(frozen=True)
class Check:
    """One finding: ``ok`` is None if there is nothing to check; ``fix`` is empty unless the check failed."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


@verb(DoctorConfig, here=True)
def doctor(config: DoctorConfig) -> list[Check]:
    """Runs all checks; they are ordered such that failures are best fixed from the top.

    With ``address`` a running Ray cluster is looked at, without it whether Ray starts here; with ``storage`` a
    probe file is written below that folder.
    """
    looks: dict[str, Callable[[], Iterator[Check]]] = {
        "python": _python,
        "packages": _packages,
        "torch": _torch,
        "memory": _memory,
        "shared memory": _shared_memory,
        "disk": _disk,
        "pip": _registry,
        "S3 environment": _s3_environment,
    }
    if config.storage is not None:
        looks["storage"] = partial(_storage, config.storage)
    looks["ray"] = partial(_ray, config.address)
    return [check for name, look in looks.items() for check in _examine(name, look)]


def _examine(name: str, look: Callable[[], Iterator[Check]]) -> list[Check]:
    """A check that breaks is a finding too: a doctor must not fall ill of what it examines."""
    found: list[Check] = []
    try:
        found.extend(look())
    except Exception as error:
        detail = f"could not be examined: {type(error).__name__}: {error}"
        found.append(Check(name, False, detail, "Report this together with the output of `das doctor --json`."))
    return found


def _python() -> Iterator[Check]:
    version = platform.python_version()
    wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"] if _installed() else ">=3.11"
    ok = sys.version_info >= (3, 11)
    yield Check("python", ok, f"{version} at {sys.executable}", "" if ok else f"Use Python {wanted}.")


def _installed() -> bool:
    try:
        importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _packages() -> Iterator[Check]:
    """The installed versions against the project's own requirements; those of extras are not asked for."""
    if not _installed():
        yield Check(
            "packages",
            False,
            f"{DISTRIBUTION} is imported from a folder, not installed: its requirements are unknown",
            "Run `pip install -e .` in the repository.",
        )
        return
    for line in importlib.metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        fix = f"Run `pip install '{re.split(';', line)[0].strip()}'`."
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(requirement.name, False, f"not installed, wanted {requirement.specifier}", fix)
            continue
        # A local part as in 2.13.0+cpu names the build, not another version.
        ok = requirement.specifier.contains(version.partition("+")[0], prereleases=True)
        yield Check(requirement.name, ok, f"{version} (wanted {requirement.specifier})", "" if ok else fix)


def _torch() -> Iterator[Check]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    ok = threads <= cores
    yield Check(
        "torch threads",
        ok,
        f"{threads} on {cores} usable cores",
        "" if ok else f"Set OMP_NUM_THREADS={cores}: more threads than cores slow everything down.",
    )
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Check("gpu", True, ", ".join(cards))
    elif shutil.which("nvidia-smi") and torch.version.cuda is None:
        fix = f"Reinstall torch=={torch.__version__.partition('+')[0]} as its CUDA build."
        yield Check("gpu", False, "the machine has an NVIDIA driver, but PyTorch is its CPU build", fix)
    elif shutil.which("nvidia-smi"):
        fix = f"Install a driver that supports CUDA {torch.version.cuda}."
        yield Check("gpu", False, "an NVIDIA driver is there, but PyTorch cannot use it", fix)
    else:
        yield Check("gpu", None, "none; everything runs on the CPU")


def _memory() -> Iterator[Check]:
    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    detail = f"{free / _GIB:.1f} GiB free of {total / _GIB:.1f} GiB"
    limit = _cgroup_limit()
    if limit is not None and limit < total:
        free = min(free, limit)
        detail += f"; this container may use {limit / _GIB:.1f} GiB"
    ok = free >= _MEMORY
    fix = f"Free memory or use a larger machine: {_MEMORY >> 30} GiB is a comfortable least for MovieLens-1M."
    yield Check("memory", ok, detail, "" if ok else fix)


def _cgroup_limit() -> int | None:
    """The memory limit of this container (cgroup v2, then v1), in bytes; None without one."""
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            said = Path(file).read_text().strip()
        except OSError:
            continue
        return int(said) if said.isdigit() else None
    return None


def _shared_memory() -> Iterator[Check]:
    if not os.path.isdir("/dev/shm"):
        yield Check("shared memory", None, "this system has no /dev/shm; Ray uses a folder instead")
        return
    size = shutil.disk_usage("/dev/shm").total
    wanted = min(2 * _GIB, int(0.25 * psutil.virtual_memory().total))
    ok = size >= wanted
    fix = "Start the container with --shm-size=2g or more: without it Ray's object store falls back to disk."
    yield Check("shared memory", ok, f"/dev/shm has {size / _GIB:.1f} GiB", "" if ok else fix)


def _disk() -> Iterator[Check]:
    places = {
        "temporary files": tempfile.gettempdir(),
        "Ray's spilling": os.path.join(os.environ.get("RAY_TMPDIR", "/tmp"), "ray"),
        "fetched logs": default_home(),
    }
    for use, place in places.items():
        there = Path(place)
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
        ok = writable and free >= _DISK
        variable = {"temporary files": "TMPDIR", "Ray's spilling": "RAY_TMPDIR", "fetched logs": "DAS_HOME"}[use]
        detail = f"{free / _GIB:.0f} GiB free at {place}" + ("" if writable else ", which is not writable")
        fix = f"Make room, or set {variable} to a folder on a larger disk ({_DISK >> 30} GiB are wanted)."
        yield Check(f"disk for {use}", ok, detail, "" if ok else fix)


def _registry() -> Iterator[Check]:
    """pip brings ml-100k where its original host cannot be reached; nothing else needs it at run time."""
    pip = find_pip()
    if pip is None:
        fix = "Only `das fetch` behind a firewall wants it: `uv pip install pip` adds it."
        yield Check("pip", None, f"not installed. {fix}")
        return
    yield Check("pip", True, " ".join(pip))


def _s3_environment() -> Iterator[Check]:
    present = [name for name in _S3_VARIABLES if os.environ.get(name)]
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & set(present)
    if len(keys) == 1:
        (only,) = keys
        (other,) = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} - keys
        yield Check("S3 environment", False, f"{only} is set and {other} is not", f"Set {other} too.")
    elif present:
        yield Check("S3 environment", True, "set: " + ", ".join(present))
    else:
        yield Check("S3 environment", None, "no AWS_… variable is set; an instance profile or ~/.aws may still serve")


def _storage(uri: str) -> Iterator[Check]:
    """Writes, reads and deletes a small file, and tells the real reason if one of them fails."""
    name = f"storage {storage.redact(uri)}"
    probe = storage.join(storage.normalise(uri), f".das-doctor-{uuid.uuid4().hex}")
    try:
        storage.write_bytes(probe, b"probe")
        try:
            whole = storage.read_bytes(probe) == b"probe"
        finally:
            storage.remove(probe)
    except (DasError, OSError) as error:
        reason = str(error).replace(storage.redact(probe), storage.redact(uri))
        yield Check(name, False, reason, "Fix what the sentence names, then run `das doctor` again.")
        return
    fix = "The storage returned other bytes than were written: do not use it."
    yield Check(name, whole, "a probe file was written, read and deleted", "" if whole else fix)


def _ray(address: str | None) -> Iterator[Check]:
    name = "ray starts here" if address is None else f"ray cluster {storage.redact(address)}"
    if address is not None and (refusal := knock.refusal(address)):
        yield Check(name, False, refusal.why, f"{refusal.fix[0].upper()}{refusal.fix[1:]}.")
        return
    answer, reason = probe_ray(address)
    if answer is None:
        yield Check(name, False, reason, _ray_fix(address))
        return
    room = f"{answer.nodes} node(s), {answer.cpus:.0f} CPUs, {answer.gpus:.0f} GPUs"
    yield Check(name, True, room)
    if address is None:
        return
    if answer.could:
        yield Check("what it can start", True, answer.could)
    for what, version in versions.here().items():
        there = str(getattr(answer, what))
        ok = versions.agree(what, version, there)
        fix = f"Install {what} {version} on the cluster, or {there} here: code and tensors travel between them."
        yield Check(f"{what} on the cluster", ok, f"{there} there, {version} here", "" if ok else fix)


def _ray_fix(address: str | None) -> str:
    if address is None:
        return "Fix the checks above first; Ray's own logs lie in its temporary folder, under session_latest/logs."
    return f"Check that Ray {importlib.metadata.version('ray')} listens there, and what its head's logs say."
