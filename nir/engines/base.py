"""What an engine is: a card of facts, settings of its own, and one way to register a pair."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nir.cohort.prepared import ImagePair
from nir.errors import NirError
from nir.geometry.grid import Grid
from nir.losses.similarities.base import Similarity
from nir.registry import Registry
from nir.settings import ByName, Name, Settings

if TYPE_CHECKING:
    from nir.field.fitted import FittedField

Progress = Callable[[int, int, float], None]
"""Called after each step with the stage of the trace, the step and the loss."""


class EngineSettings(Settings):
    """One registration method; all methods run on the same pairs."""

    name: Name
    engine: str

    @property
    def own_settings(self) -> dict[str, Any]:
        """All that decides a registration, what follows from it included, ready for JSON."""
        return self.model_dump(mode="json")

    @property
    def acting(self) -> dict[str, Any]:
        """What decides its numbers, however it was asked for: equal settings spelt differently."""
        return {key: value for key, value in self.own_settings.items() if key != "name"}

    @property
    def card(self) -> Engine:
        """The engine with these settings."""
        return ENGINES[self.engine](self)


@dataclass
class Job:
    """How one registration is run.

    Args:
        seed: of every random number.
        device: where to compute, ``cpu`` or ``cuda``.
        threads: that it may use.
        progress: called after each step.
        log: takes lines of text.
    """

    seed: int
    device: str
    threads: int = 1
    progress: Progress | None = None
    log: Callable[[str], None] = print


@dataclass
class Registration:
    """The whole mapping, affine included, as displacements in LPS mm.

    Args:
        forward: fixed to moving points, on the fixed grid, float32 (X, Y, Z, 3).
        inverse: moving to fixed points, on the moving grid.
        trace: one row a step of the fit.
        repaired: folded cells that the fit smoothed away.
        seconds: wall time of each part.
        fitted: the field itself, of an engine that writes one.
    """

    forward: np.ndarray
    inverse: np.ndarray
    trace: list[dict[str, float]] = field(default_factory=list)
    repaired: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    fitted: FittedField | None = None

    def scaled(self, factor: float) -> Registration:
        """Return the same in a space that is so many times larger."""
        if factor == 1:
            return self
        longer = {"step_mm"}
        return replace(
            self,
            forward=np.float32(factor) * self.forward,
            inverse=np.float32(factor) * self.inverse,
            trace=[{k: factor * v if k in longer else v for k, v in r.items()} for r in self.trace],
            fitted=self.fitted and self.fitted.scaled(factor),
        )


class Engine(ABC):
    """The card of an engine: what all other parts ask of it, and the registration itself.

    A card is loaded while a cohort is planned, so it imports heavy libraries within its methods.
    What is asked for a page comes from records, which may be of an earlier version.

    Attributes:
        Settings: its keys under ``methods``; ``engine`` is a literal of its name.
        guides: what it looks at beside two images, some of `nir.cohort.prepared.GUIDES`.
        deforms: False: the result is the affine, so no gain over it is asked.
        on_gpu: it computes on a GPU where the run's device is one.
        threaded: more than one thread helps.
        trains: it is trained on the cohort first.
        writes_field: it can keep what it fitted, see `Registration.fitted`.
        cites: keys of ``reports/references.bib``, whatever its settings; see `works`.
        libraries: distributions whose versions decide its numbers.
    """

    Settings: ClassVar[type[EngineSettings]]
    guides: ClassVar[tuple[str, ...]] = ()
    deforms: ClassVar[bool] = True
    on_gpu: ClassVar[bool] = False
    threaded: ClassVar[bool] = True
    trains: ClassVar[bool] = False
    writes_field: ClassVar[bool] = False
    cites: ClassVar[tuple[str, ...]] = ()
    libraries: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: EngineSettings) -> None:
        self.settings: Any = settings

    @abstractmethod
    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Register a pair."""

    @classmethod
    @abstractmethod
    def sentence(cls, result: Mapping[str, Any]) -> str:
        """Say for the methods text what was done, from the content of ``result.json``."""

    @classmethod
    def works(cls, own_settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return whom to cite for what ran with these settings; `sentence` names the same."""
        return cls.cites

    @classmethod
    def compared(cls, own_settings: Mapping[str, Any]) -> Mapping[str, Similarity]:
        """Return the similarities that it compared, by name; they are reported and cited."""
        return {}

    @classmethod
    def stages(cls, own_settings: Mapping[str, Any]) -> list[str]:
        """Title the stages of the trace, whose losses are drawn; none: there is no picture."""
        return []

    def heeds(self) -> tuple[str, ...]:
        """Return the `guides` that these settings leave switched on."""
        return self.guides

    def local(self) -> bool:
        """Tell whether what is found at a place follows from the images around it alone.

        A part of a pair is then registered as within the whole, in a part of the time.
        """
        return True

    def megabytes(self, fixed: Grid, moving: Grid, contrasts: int = 1) -> float:
        """Return the memory that a job asks for, MB; see benchmarks/ and resources.tsv."""
        return 600 + 350 * max(math.prod(grid.shape) for grid in (fixed, moving)) / 1e6

    def minutes(self, megavoxels: float) -> float:
        """Return the time that a job asks for a pair of images of this size."""
        return 2 + 5 * megavoxels

    def guided_by(self, pair: ImagePair) -> dict[str, Any]:
        """Tell what is looked at in a pair beside two images: how many, or which."""
        structures = () if pair.fixed_structures is None else np.unique(pair.fixed_structures)
        excluded = {"fixed": pair.fixed_exclude, "moving": pair.moving_exclude}
        known: dict[str, Any] = {
            "keypoints": 0 if pair.fixed_points_lps is None else len(pair.fixed_points_lps),
            "structures": [int(n) for n in structures if n],
            "excluded": [role for role, mask in excluded.items() if mask is not None],
            "contrasts": len(pair.fixed_channels),
        }
        return {name: known[name] for name in self.heeds() if known[name]}


ENGINES: Registry[type[Engine]] = Registry("engine", "nir.engines", "ENGINE", "nir.engines", Engine)


BY_ENGINE = ByName(ENGINES, "engine", EngineSettings)

make_method = BY_ENGINE.make


def recall(own_settings: Mapping[str, Any]) -> EngineSettings:
    """Return the method whose own settings a record or a job holds."""
    known = ENGINES[own_settings["engine"]].Settings.model_fields
    return make_method({k: v for k, v in own_settings.items() if k in known})


def deforms(engine: str) -> bool:
    """Tell whether an engine does more than the affine; one that is not known here is taken to."""
    return engine not in ENGINES.names or ENGINES[engine].deforms


def pick_device(name: str) -> str:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device that is there: one of the last two.

    Raises:
        NirError: another name, or ``cuda`` is asked for and no CUDA device can be used.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise NirError(f"device: expected auto, cpu or cuda, found '{name}'")
    if name == "cpu":
        return name
    import torch  # takes a second

    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise NirError(
            "device: expected a CUDA device, found none that torch can use; set device to auto or"
            " cpu, or install a CUDA build of torch"
        )
    return "cuda" if found else "cpu"
