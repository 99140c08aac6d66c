"""What a similarity is: its settings in a fit, and what the parts around it must know of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from nir.errors import NirError
from nir.registry import Registry
from nir.settings import Positive, Settings, validation_lines

if TYPE_CHECKING:
    from torch import Tensor

    from nir.losses.matching import Matcher


class Similarity(Settings):
    """A similarity of images: the class is its card, an instance its settings in a fit.

    Planning a cohort loads the cards: what needs torch is imported within their methods. Images
    have shape (B, C, X, Y, Z), channels score apart and are averaged.

    Attributes:
        words: for the methods text; ``{width}`` stands for the edge of the windows, samples, and
            ``{key}`` for a setting of its own.
        cites: keys of ``reports/references.bib``.
        voxel_bytes: memory of a voxel of a level and of a contrast beyond what the LNCC takes.
        price: of a voxel in a search, the factor that brings `gap` to the scale of the LNCC; None:
            a score of whole images, of which no voxel has a share of its own.
        looks_around: whether the score of a voxel needs its neighbours.
        windowed: whether it compares windows of the phase's ``radius``.
        reported: whether every registration is measured by it, compared in the fit or not.
    """

    words: ClassVar[str]
    cites: ClassVar[tuple[str, ...]] = ()
    voxel_bytes: ClassVar[int] = 0
    price: ClassVar[float | None] = None
    looks_around: ClassVar[bool] = False
    windowed: ClassVar[bool] = False
    reported: ClassVar[bool] = False

    weight: Positive = 1.0

    @property
    def written(self) -> float | dict[str, Any]:
        """Its settings as in a file: the weight, where there is nothing else to set."""
        own = self.model_dump(mode="json")
        return own if len(own) > 1 else self.weight

    def sentence(self, radius: int) -> str:
        """Name it in the methods text; ``radius`` of its windows, samples."""
        return self.words.format(width=2 * radius + 1, **self.model_dump())

    def prepare(self, image: Tensor) -> Tensor:
        """Return what is compared of an image of a level, before any warp."""
        return image

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Score prepared images, 1 at best; differentiable in ``warped``.

        Args:
            weight: of each voxel, shape (B, 1, X, Y, Z); radius: of windows, voxels.
        """
        raise NotImplementedError

    def curvature(
        self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int
    ) -> Tensor | None:
        """Return how fast the score's derivative by each voxel falls; None: it is not known.

        At least zero, shape (B, C, X, Y, Z); arguments as of `score`.
        """
        return None

    def matcher(
        self, fixed: Tensor, moving: Tensor, weight: Tensor, extent: Tensor, radius: int
    ) -> Matcher | None:
        """Return its own score and derivatives on a CPU; None: by autograd.

        Args:
            fixed, moving: prepared, shape (1, C, X, Y, Z).
            weight: of each voxel, (1, 1, X, Y, Z); extent: edges of the cube, mm, (3,).
        """
        return None

    def features(self, image: Tensor) -> Tensor:
        """Return what a search compares of a prepared image."""
        return image

    def gap(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Return how far the features of each voxel lie apart, shape (B, 1, X, Y, Z)."""
        return (fixed - moving).square().mean(1, keepdim=True)

    def add_costs(
        self,
        total: Tensor | None,
        fixed: Tensor,
        moving: Tensor,
        weight: Tensor,
        share: float,
        radius: int,
        reach: int,
    ) -> Tensor:
        """Add its price of every displacement.

        Args:
            total: to which it is added, ((2 reach + 1)^3, X, Y, Z); None: nothing has a price yet.
            fixed, moving: prepared; weight: of each voxel, (1, 1, X, Y, Z).
            share: of the similarity in the sum.
            radius: of the windows over which a price is averaged, voxels.
            reach: largest displacement along each axis, voxels.
        """
        from nir.losses.prices import add_window_costs

        assert self.price is not None
        features = self.features(fixed), self.features(moving)
        counts = share, self.price * weight
        return add_window_costs(total, self.gap, *features, counts, radius, reach)


SIMILARITIES: Registry[type[Similarity]] = Registry(
    "similarity", "nir.losses.similarities", "SIMILARITY", "nir.similarities", Similarity
)


def similarity(name: str, given: object) -> Similarity:
    """Build a similarity from its weight, or from a mapping of settings.

    Raises:
        NirError: unknown similarity, or faulty settings, a line each.
    """
    card, bare = SIMILARITIES[name], not isinstance(given, Mapping)
    try:
        return card.model_validate({"weight": given} if bare else given)
    except ValidationError as error:
        lines = validation_lines(error, card)
        raise NirError("\n".join(x.removeprefix("weight: " * bare) for x in lines)) from error


def compared(phases: Iterable[Mapping[str, Any]]) -> dict[str, Similarity]:
    """Return all similarities that written phases of a fit compare, by name."""
    return {
        name: similarity(name, given)
        for phase in phases
        for name, given in phase["similarity"].items()
    }
