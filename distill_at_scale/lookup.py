"""Lookup by name: built-in names, entry points of installed packages, and ``package.module:Class``.

The tables themselves are in `registry`. Workers of a cluster receive the name or spec, and each process imports it on
first use. A name may also come from a file of unknown origin: lookups by ``[]``, ``in`` and :meth:`Names.known` never
import code that only a file names.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import logging
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from distill_at_scale.errors import PluginError, SettingError
from distill_at_scale.validation import did_you_mean, same_name

T = TypeVar("T")
log = logging.getLogger(__name__)

PACKAGE = "distill_at_scale"
ALLOWED = "DAS_PLUGINS"
"""Environment variable: comma-separated specs and packages whose classes may be loaded from saved models."""

_NAME = r"[^\W\d]\w*"
_SPEC = re.compile(rf"{_NAME}(\.{_NAME})*:{_NAME}(\.{_NAME})*")
_ENTRY_NAME = re.compile(r"[\w-]+")


class Registry(Mapping[str, T], Generic[T]):
    """Table of objects by name, imported on first use. Iteration yields names, never specs.

    Args:
        kind: Kind of the objects, for messages.
        homes: Name -> ``module:attribute``, the module without the package's name.
        contract: ``module:Class`` that every object extends, or of which it is an instance.
        instances: Whether the objects are instances of the contract; else they are classes that extend it.
        required: Attributes that a class must set, beside its abstract methods.
        group: Group of the entry points that extend the table; None if it cannot be extended.
    """

    def __init__(
        self,
        kind: str,
        homes: Mapping[str, str],
        contract: str | None = None,
        *,
        instances: bool = False,
        required: tuple[str, ...] = (),
        group: str | None = None,
    ) -> None:
        self.kind, self._homes, self._contract, self.group = kind, dict(homes), contract, group
        self._instances, self._required = instances, required
        self._resolved: dict[str, T] = {}
        """spec -> imported object"""

    # -- as a mapping -------------------------------------------------------------------------------------

    # A name may come from a file, and importing it would run arbitrary code. These two methods import a spec only if it
    # was named to this process or is trusted. Names given by the user go to `find`.
    def __getitem__(self, name: str) -> T:
        if name in self._homes:
            module, _, attribute = self._homes[name].partition(":")
            found: T = getattr(importlib.import_module(f"{PACKAGE}.{module}"), attribute)
            return found
        if is_spec(name):
            if not self.trusts(name):
                raise KeyError(name)
            return self.resolve(name)
        found = self.resolve(self._entries[name])
        _used.add(name)
        return found

    def __contains__(self, name: object) -> bool:
        # Mapping's implementation would import the object.
        if not isinstance(name, str):
            return False
        if is_spec(name):
            return name in self._resolved or (self.trusts(name) and self._mismatch(_imported(name)) is None)
        return name in self._homes or name in self._entries

    def __iter__(self) -> Iterator[str]:
        yield from self._homes
        yield from self._entries

    def __len__(self) -> int:
        return len(self._homes) + len(self._entries)

    def attributes(self) -> dict[str, str]:
        """Returns attribute in the module -> name in the table, without importing anything."""
        return {home.partition(":")[2]: name for name, home in self._homes.items()}

    def find(self, name: str) -> T:
        """Returns the object of a name (case-insensitive) or spec.

        Raises:
            SettingError: The name is unknown; the message lists the known ones.
            PluginError: As for :meth:`resolve`.
        """
        if self.group is not None and is_spec(name):
            return self.resolve(name.strip())
        known = same_name(name, self)
        if known is None:
            near = did_you_mean(name, self)
            raise SettingError(f"Unknown {self.kind} '{name}'; the {self.kind}s are {', '.join(self)}.{near}")
        return self[known]

    # -- plugins ------------------------------------------------------------------------------------------

    def resolve(self, spec: str) -> T:
        """Returns the object of a spec ``package.module:Class``, imported on first use.

        Raises:
            PluginError: The module is missing or cannot be imported, lacks the attribute, or the object is not of this
                kind; the message says what is missing.
        """
        if spec not in self._resolved:
            found = _imported(spec)
            if mismatch := self._mismatch(found):
                raise PluginError(f"'{spec}' is not a {self.kind}: {mismatch}.")
            self._resolved[spec] = cast(T, found)
            _used.add(spec)
        return self._resolved[spec]

    def is_built_in(self, name: str) -> bool:
        """Returns whether a name belongs to the package itself."""
        return name in self._homes

    def spec(self, name: str) -> str:
        """Returns the spec of an entry point's name, or of a spec itself.

        Raises:
            KeyError: No entry point has that name.
        """
        return name if is_spec(name) else self._entries[name]

    def spec_of(self, thing: type) -> str | None:
        """Returns the spec of a class from outside the package; None for a built-in one."""
        return None if thing.__module__.split(".")[0] == PACKAGE else f"{thing.__module__}:{thing.__qualname__}"

    def trusts(self, spec: str, allow: Collection[str] = ()) -> bool:
        """Returns whether code that a file names may be imported: it is registered as an entry point, was named to this
        process, or ``allow`` or $DAS_PLUGINS lists it, its module or its package."""
        named = {*allow, *filter(None, (part.strip() for part in os.environ.get(ALLOWED, "").split(",")))}
        module = spec.partition(":")[0]
        packages = {module[:end] for end in (k for k, c in enumerate(module + ".") if c == ".")}
        return bool(spec in self._resolved or named & {spec, *packages} or spec in self._entries.values())

    @functools.cached_property
    def _entries(self) -> dict[str, str]:
        """Name -> spec of the entry points that extend the table, sorted by name."""
        if self.group is None:
            return {}
        from importlib.metadata import entry_points  # slow to import, and rarely needed

        found: dict[str, str] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda one: (one.name, one.value)):
            spec = entry.value.partition("[")[0].replace(" ", "")
            what = f"The entry point {entry.name} = {spec} of the group {self.group} is ignored"
            if not _ENTRY_NAME.fullmatch(entry.name) or not is_spec(spec):
                log.warning("%s: a name of letters, digits, - and _ and a value package.module:Class are needed.", what)
            elif entry.name in self._homes:
                log.warning("%s: the built-in %s of that name is used.", what, self.kind)
            elif found.setdefault(entry.name, spec) != spec:
                log.warning("%s: %s of that name is used.", what, found[entry.name])
        return found

    def _mismatch(self, found: Any) -> str | None:
        """Returns why an object is not of this kind, as a clause; None if it is."""
        if self._contract is None:
            return "this table cannot be extended"
        module, _, attribute = self._contract.partition(":")
        contract: Any = getattr(importlib.import_module(f"{PACKAGE}.{module}"), attribute)
        where = f"{PACKAGE}.{module}.{attribute}"
        if self._instances:
            return None if isinstance(found, contract) else f"it is not an instance of {where}"
        if not isinstance(found, type):
            return f"it is not a class; name one that extends {where}"
        missing = [name for name in self._required if not hasattr(found, name)]
        if not issubclass(found, contract):
            missing = [name for name in (*self._required, *contract.__abstractmethods__) if not hasattr(found, name)]
            also = f", and lacks {', '.join(sorted(missing))}" if missing else ""
            return f"it does not extend {where}{also}"
        if inspect.isabstract(found):
            missing += sorted(getattr(found, "__abstractmethods__", ()))
        if not missing and hasattr(found, "lacks"):
            missing = found.lacks()
        return f"it lacks {', '.join(missing)}" if missing else None


class Names(Collection[str]):
    """The names of several tables."""

    def __init__(self, *tables: Registry[Any]) -> None:
        self.tables = tables

    def __contains__(self, name: object) -> bool:
        return any(name in table for table in self.tables)

    def __iter__(self) -> Iterator[str]:
        return (name for table in self.tables for name in table)

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    def find(self, name: str) -> Registry[Any]:
        """Returns the table of a name that the user gave; a spec is imported.

        Raises:
            KeyError: The name is unknown.
            PluginError: The spec cannot be imported, or its object fits none of the tables.
        """
        if not is_spec(name):
            for table in self.tables:
                if name in table:
                    return table
            raise KeyError(name)
        found = _imported(name)
        reasons = []
        for table in self.tables:
            mismatch = table._mismatch(found)
            if mismatch is None:
                table.resolve(name)
                return table
            reasons.append(f"as a {table.kind}: {mismatch}")
        kinds = " or ".join(table.kind for table in self.tables)
        raise PluginError(f"'{name}' is not a {kinds} ({'; '.join(reasons)}).")

    def is_built_in(self, name: str) -> bool:
        """Returns whether a name belongs to the package itself."""
        return any(table.is_built_in(name) for table in self.tables)

    def known(self, name: str) -> Registry[Any] | None:
        """Returns the table of a name that may come from a file, or None; imports only trusted code."""
        return next((table for table in self.tables if name in table), None)


def is_spec(name: str) -> bool:
    """Returns whether a name has the form ``package.module:Class``."""
    return _SPEC.fullmatch(name.strip()) is not None


def file_name(name: str) -> str:
    """Converts a name or spec to a part of a file name."""
    return name.replace(":", ".")


def used() -> list[str]:
    """Returns the specs and entry points that this process has imported from outside the package."""
    return sorted(_used)


_used: set[str] = set()


def _imported(spec: str) -> Any:
    """Imports the object of a spec.

    Raises:
        PluginError: The module is missing or cannot be imported, or lacks the attribute.
    """
    module, _, path = spec.strip().partition(":")
    if module == "__main__":
        raise PluginError(f"'{spec}' is in __main__, which workers cannot import; move it into its own module.")
    if module.split(".")[0] not in sys.modules and not importlib.util.find_spec(module.split(".")[0]):
        # The current folder, as for `python -m` and Ray's workers; last on the path, so that no file there shadows an
        # installed module.
        sys.path.append("")
        importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise PluginError(
                f"'{spec}': module '{error.name}' is missing; install it, or put its folder on PYTHONPATH."
            ) from error
        raise PluginError(f"'{spec}': module '{error.name}', which {module} imports, is not installed.") from error
    except Exception as error:
        raise PluginError(f"'{spec}': {module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            # What the module defines, not what it imports.
            own = vars(found) if hasattr(found, "__dict__") else {}
            known = [
                name
                for name, one in own.items()
                if not (name.startswith("_") or inspect.ismodule(one))
                and (not hasattr(one, "__name__") or one.__module__ == module)
            ]
            raise PluginError(f"'{spec}': {module} has no '{path}'.{did_you_mean(part, known)}")
        found = getattr(found, part)
    return found
