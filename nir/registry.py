"""What is chosen by name is found by name: in a folder of this package, or in another package.

An entry is one file. Nothing is loaded until it is asked for, so a name costs nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
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
        group: of the entry points by which other packages bring more, ``NAME = module:ATTRIBUTE``.
        dashes: spell names with dashes where those of modules have underscores.
    """

    def __init__(
        self, kind: str, package: str, attribute: str, group: str, *, dashes: bool = False
    ) -> None:
        self.kind, self.package, self.attribute, self.group = kind, package, attribute, group
        self._dash = "-" if dashes else "_"
        self._loaded: dict[str, T] = {}

    @cached_property
    def own(self) -> list[str]:
        """The names that this package knows by itself, whatever else is installed."""
        folder = importlib.import_module(self.package).__path__
        modules = [m.name for m in pkgutil.iter_modules(folder) if m.name != "base"]
        return [name.replace("_", self._dash) for name in modules]

    @cached_property
    def _brought(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    @property
    def names(self) -> list[str]:
        """All names: our own, then those that other packages bring."""
        others = sorted({*self._brought, *self._loaded} - set(self.own))
        return [*self.own, *others]

    def add(self, name: str, entry: T) -> None:
        """Add an entry for this process alone, as a script does that brings its own."""
        self._loaded[name] = entry

    def __getitem__(self, name: str) -> T:
        """Return an entry.

        Raises:
            NirError: no entry has this name, or the package that brings it cannot be loaded.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        if name in self.own:
            file = name.replace(self._dash, "_")
            module = importlib.import_module(f"{self.package}.{file}")
            entry: T = getattr(module, self.attribute)
            return entry
        if name not in self._brought:
            known, hint = ", ".join(self.names), nearest(name, self.names, "name one of them")
            raise NirError(f"no {self.kind} is called '{name}': known are {known}; {hint}")
        point = self._brought[name]
        try:
            brought: T = point.load()
        except Exception as error:
            package = point.dist.name if point.dist else point.value
            raise NirError(
                f"the {self.kind} '{name}' of the package {package} could not be loaded"
                f" ({type(error).__name__}: {error}); update or remove that package"
            ) from error
        return brought
