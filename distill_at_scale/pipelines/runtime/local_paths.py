"""Local paths on a cluster of several machines: refused before any work unless every node sees them.

What a verb reads is compared by its first bytes, so that copies on every node pass; where it writes, every node looks
for a marker file. One task a node does that, and none where the driver's own node is the only one.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from distill_at_scale.config.values import ClusterConfig
from distill_at_scale.data import storage
from distill_at_scale.errors import ClusterError
from distill_at_scale.pipelines.runtime import plugins, session
from distill_at_scale.validation import has_choices

READ = (
    *("append", "data", "forecast", "from_", "genie", "input", "log", "model", "propensities", "samples", "scores"),
    *("sweep", "sweeps", "users"),
)
"""Settings that name what a verb reads, where they are addresses."""
WRITTEN = ("output", "remaining", "teachers_at")
"""Settings that name what a verb writes."""

_C = TypeVar("_C", bound=ClusterConfig)
_MARKER = ".das-visible-"
_HEAD = 1 << 16
"""Bytes of a file that are compared."""
_FILES = 3
"""Files of a folder that are compared."""
_LOOKS, _BETWEEN_LOOKS_S = 3, 1.0
"""A network file system may show a new file a moment later on another machine."""
_PATIENCE_S = 60.0


@contextlib.contextmanager
def visible(config: ClusterConfig) -> Iterator[None]:
    """Makes sure that every node sees the local paths of a verb: before the block, and after it those that joined.

    Needs a Ray session.

    Raises:
        ClusterError: naming the path and a node that does not see it, instead of what the block raised because of that.
    """
    places = local_places(config)
    if not places:
        yield
        return
    seen: set[str] = set()
    _require(places, seen)
    try:
        yield
    except Exception:
        _require(places, seen)
        raise
    _require(places, seen)


def absolute(config: _C) -> _C:
    """The settings with absolute local paths, which mean the same to a process with another working directory."""
    changes: dict[str, Any] = {}
    for name in _addresses(config):
        value = getattr(config, name)
        uris = [storage.normalise(uri) if _is_path(config, name, uri) else uri for uri in _several(value)]
        changes[name] = uris if isinstance(value, list) else uris[0]
    return config.model_copy(update=changes)


def _is_path(config: ClusterConfig, name: str, uri: str) -> bool:
    """Whether a value is a local path for sure: settings as ``users`` take other words as well."""
    return storage.is_local(uri) and (name in WRITTEN or os.path.lexists(os.path.expanduser(uri)) or os.sep in uri)


@dataclass(frozen=True)
class Place:
    """A local path that a verb reads or writes."""

    path: str
    written: bool


def local_places(config: ClusterConfig) -> list[Place]:
    """The local paths among a verb's settings."""
    return [
        Place(storage.local_path(uri), name in WRITTEN)
        for name in _addresses(config)
        for uri in _several(getattr(config, name))
        if storage.is_local(uri)
    ]


def _addresses(config: ClusterConfig) -> list[str]:
    """Names of the settings that hold addresses."""
    fields = type(config).model_fields
    return [
        name
        for name in (*READ, *WRITTEN)
        # As the model that `fit` takes by its name.
        if name in fields and not has_choices(fields[name]) and getattr(config, name) is not None
    ]


def _several(value: Any) -> list[str]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


# -- looking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Witness:
    """What a node must find to see a place as the driver does."""

    place: str
    path: str
    digest: str | None
    """SHA-256 of the first bytes; None for a folder."""


def _require(places: Sequence[Place], seen: set[str]) -> None:
    """Raises a ClusterError unless every living node that is not in ``seen`` sees the places; adds them to it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    try:
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in seen}
        if not session.is_client():
            seen.add(own := ray.get_runtime_context().get_node_id())
            nodes.pop(own, None)
    except Exception:  # without a connection to the cluster nobody can look, and that is said elsewhere
        return
    if not nodes:
        return
    with _witnesses(places) as witnesses:
        if not witnesses:
            return
        look = ray.remote(num_cpus=0, max_retries=1)(_unseen)
        asked = {}
        for node_id, node in nodes.items():
            there = NodeAffinitySchedulingStrategy(node_id, soft=False)
            asked[look.options(scheduling_strategy=there).remote(witnesses)] = node
        done, late = ray.wait(list(asked), num_returns=len(asked), timeout=_PATIENCE_S)
        for ref in late:
            ray.cancel(ref, force=True)
        for ref in done:
            try:
                unseen = ray.get(ref)
            except ray.exceptions.RayError:
                # A node that has gone, or is not ready: its tasks will say what is wrong with it.
                continue
            if unseen:
                raise ClusterError(
                    f"{unseen[0]} is on {_owner()} disk, which node {plugins.called(asked[ref])} does not see; "
                    "use s3:// or a shared mount."
                )
    seen.update(nodes)


def _owner() -> str:
    import ray

    if not session.is_worker():
        return "this machine's"
    mine = ray.get_runtime_context().get_node_id()
    return next((f"node {plugins.called(node)}'s" for node in ray.nodes() if node["NodeID"] == mine), "another node's")


@contextlib.contextmanager
def _witnesses(places: Sequence[Place]) -> Iterator[list[_Witness]]:
    """What the nodes have to find, while the block runs; none for a place that this process does not see itself."""
    found: list[_Witness] = []
    markers: list[str] = []
    try:
        for place in dict.fromkeys(places):
            with contextlib.suppress(OSError):
                if place.written:
                    markers.append(marker := _marker(place.path))
                    found.append(_Witness(place.path, marker, _digest(marker)))
                else:
                    found.extend(_evidence(place.path))
        yield found
    finally:
        for marker in markers:
            with contextlib.suppress(OSError):
                os.unlink(marker)


def _marker(path: str) -> str:
    """A new file in the nearest folder above ``path`` that there is."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    nonce = uuid.uuid4().hex
    marker = os.path.join(folder, f"{_MARKER}{nonce}")
    with open(marker, "x") as file:
        file.write(nonce)
    return marker


def _evidence(place: str) -> Iterator[_Witness]:
    parts = place.split(os.sep)
    # Of a pattern, the folder before its first wildcard.
    fixed = itertools.takewhile(lambda part: not any(mark in part for mark in "*?["), parts)
    path = place if os.path.lexists(place) else os.sep.join(fixed) or os.sep
    if os.path.isdir(path):
        yield _Witness(place, path, None)
        walk = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in sorted(names))
        files = (file for file in walk if not os.path.basename(file).startswith(_MARKER))
        for file in itertools.islice(files, _FILES):
            yield _Witness(place, file, _digest(file))
    elif os.path.isfile(path):
        yield _Witness(place, path, _digest(path))


def _digest(file: str) -> str:
    # Opened, not only listed: network file systems look at the server then.
    with open(file, "rb") as content:
        return hashlib.sha256(content.read(_HEAD)).hexdigest()


def _unseen(witnesses: Sequence[_Witness]) -> list[str]:
    """The places that this node does not see."""
    for look in range(_LOOKS):
        missing = [one for one in witnesses if not _is_seen(one)]
        if not missing:
            return []
        time.sleep(_BETWEEN_LOOKS_S if look + 1 < _LOOKS else 0)
    return [one.place for one in missing]


def _is_seen(witness: _Witness) -> bool:
    try:
        return os.path.isdir(witness.path) if witness.digest is None else _digest(witness.path) == witness.digest
    except OSError:
        return False
