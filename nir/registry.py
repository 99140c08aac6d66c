"""What is chosen by name is found by name: in a folder of this package, or in another package.

An entry is one file. Nothing is loaded until it is asked for, so a name costs nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from nir.errors import NirError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """The entries of one kind, by name.

    Args:
        kind: in words, for messages, as ``engine``.
        package: whose modules are the entries, named as they are; ``base`` is what they share.
        attribute: what each module calls its entry.
        base: what an entry is: an instance of it, or a subclass that leaves nothing open.
        group: of the entry points by which other packages bring more, ``NAME = module:ATTRIBUTE``.
        dashes: spell names with dashes where those of modules have underscores.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        attribute: str,
        group: str,
        base: type,
        *,
        dashes: bool = False,
    ) -> None:
        self.kind, self.package, self.attribute, self.group = kind, package, attribute, group
        self.base = base
        self._dash = "-" if dashes else "_"
        self._loaded: dict[str, T] = {}

    @cached_property
    def own(self) -> list[str]:
        """The names that this package knows by itself, whatever else is installed."""
        folder = importlib.import_module(self.package).__path__
        modules = [m.name for m in pkgutil.iter_modules(folder) if m.name != "base"]
        return [name.replace("_", self._dash) for name in modules]

    @cached_property
    def _brought(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, []).append(point)
        return found

    @property
    def names(self) -> list[str]:
        """All names: our own, then those that other packages bring."""
        others = sorted({*self._brought, *self._loaded} - set(self.own))
        return [*self.own, *others]

    def sound(self) -> Iterator[tuple[str, T]]:
        """Yield all entries; one that another package brings broken is left out with a warning."""
        for name in self.names:
            try:
                entry = self[name]
            except NirError as error:
                warnings.warn(str(error), stacklevel=2)
                continue
            yield name, entry

    def add(self, name: str, entry: T) -> None:
        """Add an entry for this process alone, as a script does that brings its own."""
        self._loaded[name] = entry

    def __getitem__(self, name: str) -> T:
        """Return an entry.

        Raises:
            NirError: no entry has this name, several have, or what a package brings is not sound.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        points = self._brought.get(name, [])
        if len(points) > (name not in self.own):
            owners = [*(["nir itself"] if name in self.own else []), *map(_owner, points)]
            who = " and by ".join(owners)
            raise NirError(f"the {self.kind} '{name}' is brought by {who}; remove a package")
        if name in self.own:
            file = name.replace(self._dash, "_")
            module = importlib.import_module(f"{self.package}.{file}")
            entry: T = getattr(module, self.attribute)
            return entry
        if not points:
            known, hint = ", ".join(self.names), nearest(name, self.names, "name one of them")
            raise NirError(f"no {self.kind} is called '{name}': known are {known}; {hint}")
        try:
            brought: T = points[0].load()
            self._check(brought)
        except Exception as error:
            raise NirError(
                f"the {self.kind} '{name}' of the package {_owner(points[0])} could not be loaded"
                f" ({type(error).__name__}: {error}); update or remove that package"
            ) from error
        return brought

    def _check(self, entry: object) -> None:
        """Refuse what is no entry of this kind, or one that lacks something."""
        if isinstance(entry, self.base):
            return
        if not (isinstance(entry, type) and issubclass(entry, self.base)):
            raise TypeError(f"expected a {self.base.__name__}, found {entry!r}")
        told = getattr(self.base, "__annotations__", {}).items()
        lacking = [n for n, x in told if str(x).startswith("ClassVar") and not hasattr(entry, n)]
        lacking += sorted(getattr(entry, "__abstractmethods__", ()))
        if lacking:
            raise TypeError(f"it lacks {', '.join(lacking)}")


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
