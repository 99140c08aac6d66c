"""One registered pair in memory: what it is warped, measured and drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nir.cohort.prepared import Prepared, keypoints_of
from nir.cohort.settings import NO_GUIDANCE, GuidanceConfig
from nir.errors import NirError
from nir.geometry.grid import Array, Grid
from nir.geometry.image import Image, outside_of
from nir.geometry.maps import Affine, DisplacementField
from nir.geometry.resample import resample
from nir.geometry.scale import scale_of
from nir.io.ants import interpolate
from nir.io.images import load_labels, load_volume
from nir.io.layout import ResultFolder
from nir.io.warps import load_affine, load_displacement
from nir.quality import jacobian, metrics
from nir.report.figures.planes import PairImages


@dataclass(frozen=True)
class Side:
    """One of the two images of a pair.

    Args:
        id: of the subject.
        brain: the prepared image, intensities in [0, 1].
        mask: of the brain, boolean, on the grid of ``brain``.
        labels: label map, int32, on its own grid.
    """

    id: str
    brain: Image
    mask: np.ndarray
    labels: Image | None = None

    @classmethod
    def read(cls, files: Prepared) -> Side:
        """Read the prepared files of a subject."""
        labels = Image(*load_labels(files.labels)) if files.labels else None
        mask = load_volume(files.mask)[0] > 0
        return cls(files.id, Image(*load_volume(files.brain)), mask, labels)


@dataclass(frozen=True)
class Registered:
    """A registered pair; what follows from it is resampled once, when it is first asked for.

    Args:
        fixed, moving: the two images.
        affine: the affine alone, fixed to moving points.
        forward: the whole mapping, affine included, fixed to moving points, on the fixed grid.
        inverse: the way back, on the moving grid.
        keypoints: points that score the pair, LPS mm, shape (2, N, 3): fixed and moving.
        interpolation: of labels: ``nearest``, or ``genericLabel`` of ANTs.
    """

    fixed: Side
    moving: Side
    affine: Affine
    forward: DisplacementField
    inverse: DisplacementField
    keypoints: Array | None = None
    interpolation: str = "nearest"

    @classmethod
    def read(
        cls,
        fixed: Prepared,
        moving: Prepared,
        matrix: Path,
        folder: Path,
        *,
        guidance: GuidanceConfig = NO_GUIDANCE,
        interpolation: str = "nearest",
    ) -> Registered:
        """Read the files of a pair that was registered into a folder.

        Both directions are sampled from the field where that alone was kept. The keypoints that
        ``guidance`` gives to the fits do not score.
        """
        files = ResultFolder(folder)
        if files.forward.exists() and files.inverse.exists():
            forward = DisplacementField(*load_displacement(files.forward))
            inverse = DisplacementField(*load_displacement(files.inverse))
        else:
            from nir.field.fitted import FittedField  # loads PyTorch
            from nir.pair.kept import directions

            forward, inverse = directions(FittedField.load(files.field), fixed, moving)
        return cls(
            Side.read(fixed),
            Side.read(moving),
            Affine(load_affine(matrix)),
            forward,
            inverse,
            keypoints_of(fixed, moving, guidance)[1],
            interpolation,
        )

    @property
    def grid(self) -> Grid:
        """The fixed grid, on which all that is warped lies."""
        return self.forward.grid

    @cached_property
    def scale(self) -> float:
        """The length of a millimetre of our settings in the fixed brain, mm."""
        return scale_of(self.fixed.mask, self.fixed.brain.grid)

    @property
    def labels(self) -> tuple[Image, Image] | None:
        """The labels of both images, where both have some."""
        fixed, moving = self.fixed.labels, self.moving.labels
        return None if fixed is None or moving is None else (fixed, moving)

    @cached_property
    def aligned(self) -> np.ndarray:
        """The moving brain after the affine alone."""
        return resample(*_parts(self.moving.brain), self.grid, self.affine)

    @cached_property
    def warped(self) -> np.ndarray:
        """The moving brain after the whole mapping."""
        return self.warp(self.moving.brain)

    @cached_property
    def warped_labels(self) -> np.ndarray:
        """The moving labels after the whole mapping."""
        return self._mapped_labels(self.forward)

    @property
    def aligned_labels(self) -> np.ndarray:
        """The moving labels after the affine alone; made anew at each look."""
        return self._mapped_labels(self.affine)

    @cached_property
    def jacobian(self) -> np.ndarray:
        """The determinant of the whole mapping at the voxels of the fixed grid."""
        return jacobian.jacobian_determinant(self.forward.u_lps, self.grid)

    @cached_property
    def there_and_back(self) -> tuple[float, float, np.ndarray]:
        """How far the inverse leads back from where it should: `metrics.inverse_consistency`."""
        sides = self.forward.u_lps, self.grid, self.inverse.u_lps, self.inverse.grid
        return metrics.inverse_consistency(*sides, self.fixed.mask)

    @property
    def pictured(self) -> PairImages:
        """What the pictures show."""
        return PairImages(
            fixed=self.fixed.brain.voxels,
            affine=self.aligned,
            warped=self.warped,
            mask=self.fixed.mask,
            jacobian=self.jacobian,
            u_lps=self.forward.u_lps,
            grid=self.grid,
            inverse=(self.inverse.u_lps, self.inverse.grid),
            scale=self.scale,
            fixed_labels=self.labels[0].voxels if self.labels else None,
            warped_labels=self.warped_labels if self.labels else None,
        )

    def warp(self, image: Image, mode: str = "linear") -> np.ndarray:
        """Resample an image of the moving subject, once, onto the fixed grid.

        ``mode`` is as in `nir.geometry.resample.resample`; the type of the voxels is kept, and a
        negative background goes on beyond the image.
        """
        outside = outside_of(image.voxels)
        return resample(*_parts(image), self.grid, self.forward, mode, outside)

    def _mapped_labels(self, transform: Affine | DisplacementField) -> np.ndarray:
        if self.moving.labels is None:
            raise NirError(f"{self.moving.id}: expected labels to warp, found none; add them")
        labels = _parts(self.moving.labels)
        return interpolate(*labels, self.grid, transform, self.interpolation)


def _parts(image: Image) -> tuple[np.ndarray, Grid]:
    return image.voxels, image.grid
