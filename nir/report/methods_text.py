"""What was done to a pair, in words for a paper, and whom to cite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nir.engines.base import ENGINES
from nir.preprocess.settings import AffineConfig, PreprocessConfig

STRIPS = {
    "none": "The images came skull-stripped.",
    "mask": "The images were cut to the masks that came with them.",
    "template": "The brains were cut out by the mask of a template that was registered to each"
    " head.",
    "deepbet": "The brains were cut out by deepbet (Fisch et al., 2024), two neural networks.",
    "command": "The brains were cut out by a program of the user's: `{command}`.",
}

KINDS = {"Rigid": "a rigid", "Similarity": "a similarity", "Affine": "a 12-parameter affine"}


def methods_text(
    result: Mapping[str, Any],
    preprocess: PreprocessConfig,
    affine: AffineConfig,
    label_interpolation: str,
    strips: Sequence[str] = (),
) -> list[str]:
    """Describe a registration in paragraphs, from its own settings.

    Args:
        result: content of ``result.json``.
        strips: how both images were stripped, where the settings leave that to the scan.
        preprocess, affine, label_interpolation: settings of the steps around the registration.
    """
    return [
        _preparation(preprocess, strips),
        _linear(str(result.get("initial", "affine")), affine),
        ENGINES[result["engine"]].sentence(result)
        + _guides(result)
        + _lengths(result)
        + _field(result),
        _measures(result, label_interpolation),
    ]


def citations(
    result: Mapping[str, Any], preprocess: PreprocessConfig, strips: Sequence[str] = ()
) -> list[str]:
    """Return what the text cites: keys of ``reports/references.bib``."""
    engine = ENGINES[result["engine"]]
    compared = engine.compared(result["settings"])
    used = {
        "tustison2021antsx": result.get("initial", "affine") == "affine",
        "tustison2010n4": preprocess.bias_correction,
        **dict.fromkeys((key for x in compared.values() for key in x.cites), True),
        "fisch2024deepbet": "deepbet" in (preprocess.skull_strip, *strips),
    }
    works = engine.works(result["settings"])
    own = (*works, *(key for key, cited in used.items() if cited), "liu2024jacobian")
    return list(dict.fromkeys(own))


def _preparation(config: PreprocessConfig, strips: Sequence[str]) -> str:
    low, high = config.window or config.percentiles
    percentiles = "Percentiles {:g} and {:g} of the intensities inside the mask"
    bounds = "Intensities of {:g} and {:g}" if config.window else percentiles
    done = strips if config.skull_strip == "auto" else [config.skull_strip]
    sentences = [STRIPS[name].format(command=config.command) for name in dict.fromkeys(done)]
    if config.bias_correction:
        sentences.append("The bias field was corrected by N4 (Tustison et al., 2010).")
    sentences.append(
        f"{bounds.format(low, high)} were mapped to 0 and 1, and values beyond were clipped."
    )
    return " ".join(sentences)


def _linear(initial: str, config: AffineConfig) -> str:
    if initial == "identity":
        return "No linear alignment came first: the images lay as their headers place them."
    if initial != "affine":
        return "The registration started from a given affine transform."
    rounds = ", ".join(map(str, config.iterations))
    how = (
        f"{KINDS[config.kind]} transform in ANTs (Tustison et al., 2021; Mattes mutual information,"
        f" at most {rounds} iterations from coarse to fine), started from a search over rotations"
    )
    if config.target == "template":
        return f"Both images were aligned with a template by {how}; the transforms were chained."
    return f"The moving image was aligned with the fixed one by {how}."


def _guides(result: Mapping[str, Any]) -> str:
    """Tell what else a fit looked at."""
    guides, text = result.get("guides", {}), ""
    if contrasts := guides.get("contrasts"):
        text += f" {contrasts + 1} contrasts of each subject were compared, each with its like."
    if excluded := guides.get("excluded"):
        text += f" A given region of the {' and of the '.join(excluded)} image did not count."
    points, labels = guides.get("keypoints"), guides.get("structures")
    weights = result["settings"].get("fit", {})
    named = [f"{points} keypoints{_weight(weights, 'keypoint_weight')}"] if points else []
    listed = ", ".join(map(str, labels or ()))
    named += [f"the structures {listed}{_weight(weights, 'structure_weight')}"] if labels else []
    return text + (f" The fit was guided by {' and '.join(named)}." if named else "")


def _weight(weights: Mapping[str, Any], key: str) -> str:
    return f" (weight {weights[key]:g})" if key in weights else ""


def _lengths(result: Mapping[str, Any]) -> str:
    """Tell by how much lengths shrank for a small brain; records of earlier versions do not."""
    scale = result.get("length_scale", 1)
    if scale == 1:
        return ""
    return (
        " Lengths in mm that belong to these settings are those of a human brain: they were"
        f" multiplied by {scale:.3g}, the size of the fixed brain."
    )


def _field(result: Mapping[str, Any]) -> str:
    """Tell of the neural field that a map is, or that was kept of it."""
    count, missed_mm = result.get("field_parameters"), result.get("field_missed_mm")
    if not count:
        return ""
    text = f" A neural field of {count:,} parameters stands for the map."
    if not missed_mm:
        return text
    return (
        f"{text} It alone was kept, and all was measured from it; on average over the brain it led"
        f" {missed_mm['mean']:.3f} mm from what was registered."
    )


def _measures(result: Mapping[str, Any], label_interpolation: str) -> str:
    text = (
        "The moving image was resampled once through the whole mapping by linear interpolation."
        " Inside the fixed mask we report the mean squared local cross-correlation (LNCC,"
        " windows of 5³ voxels), the share of folded voxels (Jacobian determinant of zero or less"
        " by forward differences at full resolution), the folded volume of the tetrahedra between"
        " voxels (non-diffeomorphic volume, NDV; Liu et al., 2024), the standard deviation of the"
        " logarithm of the determinant (SDlogJ), and the distance between a point and its image"
        " under the mapping followed by its inverse (inverse consistency); inside the moving mask"
        " the folds, the NDV and the consistency of the inverse mapping."
    )
    if result["metrics"].get("tre_after_mm") is not None:
        text += (
            " The target registration error (TRE) is the mean distance between mapped fixed"
            " keypoints and their moving counterparts, over those that did not guide a fit."
        )
    if not result["labels_scored"]:
        return text
    how = {
        "nearest": "by nearest neighbour",
        "genericLabel": "by ANTs' label interpolation",
    }
    return (
        f"{text} Labels were resampled {how[label_interpolation]} and compared by the Dice overlap"
        " and by the 95th percentile of the symmetric distance between their surfaces (HD95), over"
        " the labels that both images have; one of which nothing was left counted with a Dice of 0"
        " and with the diagonal of the fixed image."
    )
