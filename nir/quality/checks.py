"""The checks of the verdict: what each asks of a registration, and from where on it objects."""

from __future__ import annotations

import math

from nir.quality.rule import ABOVE, BELOW, Limits, Rule

AMPLE = 0.8  # LNCC and Dice with little left to gain, as between two scans of one person


def _gain(before: float, after: float) -> float:
    """Return how much of what was missing to 1 was gained, percent; NaN: it was ample before."""
    return math.nan if before >= AMPLE else 100 * (after - before) / (1 - before)


def _worse(one: float, other: float, *told: float) -> float:
    """Return the larger of two; what else the words need is not measured."""
    return max(one, other)


def _loss_rule(score: str, title: str, words: str, why: str) -> Rule:
    """Return the check that a score that was ample before is not lost."""
    return Rule(
        f"{score}_loss",
        title,
        ABOVE,
        Limits(warn=0.03, fail=0.1),
        why=why,
        finds="a fit that spoilt what the affine had matched",
        needs=(f"{score}_before", f"{score}_after"),
        found=f"The {words} was {{{score}_before:.3f}} after the affine already and is"
        f" {{{score}_after:.3f}} after the whole mapping, a loss of {{value}}",
        advice="Use the affine, or ask for a smoother deformation.",
        measure=lambda before, after: max(before - after, 0) if before >= AMPLE else math.nan,
        bends=True,
    )


CHECKS = (
    Rule(
        "similarity_gain",
        "Similarity gain",
        BELOW,
        Limits(warn=5, fail=0),
        why="LNCC gained over the affine, percent of what was missing to 1",
        finds="a fit that did not work",
        needs=("similarity_before", "similarity_after"),
        found=(
            "The local correlation of the images (LNCC) went from {similarity_before:.3f} after"
            " the affine to {similarity_after:.3f}, {value} of the way to 1"
        ),
        unit=" %",
        advice="Look whether both images show the same part of the body, in a like contrast.",
        measure=_gain,
        bends=True,
    ),
    Rule(
        "dice_gain",
        "Dice gain",
        BELOW,
        Limits(warn=5, fail=3),
        why=(
            "mean Dice gained over the affine, percent of what was missing to 1, where there "
            "are labels"
        ),
        finds="left and right flipped, labels of another subject",
        needs=("dice_before", "dice_after"),
        found=(
            "The mean Dice of the labels went from {dice_before:.3f} after the affine to"
            " {dice_after:.3f}, {value} of the way to 1"
        ),
        unit=" %",
        advice=(
            "Look for a flip of left and right, and whether the labels belong to these subjects."
        ),
        measure=_gain,
        bends=True,
    ),
    _loss_rule(
        "similarity",
        "Similarity lost",
        "local correlation of the images (LNCC)",
        "LNCC lost where the affine reached 0.8, as between two scans of one person",
    ),
    _loss_rule(
        "dice",
        "Dice lost",
        "mean Dice of the labels",
        "mean Dice lost where the affine reached 0.8; labels drawn twice on one person cost 0.02",
    ),
    Rule(
        "folds",
        "Folds",
        ABOVE,
        Limits(warn=0.01, fail=1),
        why=(
            "folded share of the fixed brain's voxels (det J <= 0) or volume (NDV), percent; at 1 %"
            " volumes of small structures mean nothing"
        ),
        finds="space that is turned inside out",
        needs=("folds_percent", "ndv_percent", "min_jacobian"),
        found=(
            "{value} of the brain is folded, by voxels (det J of 0 or less) or volume (NDV; the"
            " smallest det J is {min_jacobian:.2f})"
        ),
        unit=" %",
        advice="Do not measure volumes there, and ask for a smoother deformation.",
        measure=_worse,
    ),
    Rule(
        "inverse_folds",
        "Folds of the inverse",
        ABOVE,
        Limits(warn=0.01, fail=1),
        why=(
            "the same of the inverse, in the moving brain; at 1 % surfaces and points that are"
            " carried over cross each other"
        ),
        finds="the same on the way back",
        needs=("inverse_folds_percent", "inverse_ndv_percent", "inverse_min_jacobian"),
        found=(
            "{value} of the moving brain is folded by the inverse, by voxels or volume (NDV; the"
            " smallest det J is {inverse_min_jacobian:.2f})"
        ),
        unit=" %",
        advice="Do not carry surfaces or points over there, and ask for a smoother deformation.",
        measure=_worse,
    ),
    Rule(
        "displacement",
        "Largest displacements",
        ABOVE,
        Limits(warn=15, fail=30),
        why="99th percentile of the displacement beyond its affine part, mm",
        finds="one brain pulled over another that it is not like",
        needs=("displacement_p99_mm", "displacement_max_mm", "min_jacobian"),
        found=(
            "Beyond the affine, 99 % of the brain moves by up to {value}, the farthest point by"
            " {displacement_max_mm:.1f} mm, and the smallest det J is {min_jacobian:.2f}"
        ),
        unit=" mm",
        advice="Look at the deformation grid: shifts this large are seldom anatomy.",
    ),
    Rule(
        "noise",
        "Noise alone",
        ABOVE,
        Limits(warn=100, fail=300),
        why=(
            "displacement that noise alone would bring, percent of the mean displacement beyond"
            " its affine part; at 100 nothing was found that noise would not bring"
        ),
        finds="motion that tells nothing",
        needs=(
            *("noise_displacement_mm", "displacement_mean_mm"),
            *("noise_percent", "noise_sdlogj"),
        ),
        found=(
            "Between two scans of this brain that differ by noise alone ({noise_percent:.1f} % of"
            " its mean intensity) the method would find {noise_displacement_mm:.3f} mm and an"
            " SDlogJ of {noise_sdlogj:.3f}; that is {value} of the {displacement_mean_mm:.2f} mm"
            " which it found here beyond the affine"
        ),
        unit=" %",
        advice="Do not read the deformation voxel by voxel: all of it may be noise.",
        measure=lambda noise, found, *told: 100 * noise / found if found else math.nan,
        bends=True,
    ),
    Rule(
        "inverse_consistency",
        "Inverse consistency",
        ABOVE,
        Limits(warn=0.5, fail=2),
        why=(
            "mean distance of points taken there and back, from the fixed or the moving image, mm;"
            " 2 mm is about the thickness of the cortex"
        ),
        finds="an inverse that does not undo the transform",
        needs=(
            *("inverse_consistency_mean_mm", "inverse_consistency_back_mean_mm"),
            *("inverse_consistency_max_mm", "inverse_consistency_back_max_mm"),
        ),
        found=(
            "Points taken there and back miss their start by {value} on average (at most"
            " {inverse_consistency_max_mm:.2f} mm from the fixed image,"
            " {inverse_consistency_back_max_mm:.2f} mm from the moving image)"
        ),
        unit=" mm",
        advice="Results carried over with the inverse transform are that much out of place.",
        measure=_worse,
    ),
    Rule(
        "affine_overlap",
        "Brain overlap after the affine",
        BELOW,
        Limits(warn=0.9, fail=0.8),
        why="Dice of the two brain masks after the affine",
        finds="an affine that failed, a wrong mask, a cut brain",
        needs=("brain_overlap_before",),
        found="After the affine the two brain masks overlap with a Dice of {value}",
        advice="Look at the image after the affine and at both masks: one of the three went wrong.",
    ),
    Rule(
        "affine_correlation",
        "Likeness after the affine",
        BELOW,
        Limits(warn=0.4, fail=0.25),
        why=(
            "correlation of the intensities after the affine, sign apart; 0 for images of "
            "unlike contrast"
        ),
        finds="noise, another contrast, the wrong mask",
        needs=("affine_correlation",),
        found="After the affine the intensities of the two brains correlate by {value}",
        advice="Look at the moving image: noise, another contrast, or a brain that was not found.",
    ),
    Rule(
        "overlap",
        "Brain overlap",
        BELOW,
        Limits(warn=0.95, fail=0.85),
        why="Dice of the two brain masks after the whole mapping",
        finds="masks of different parts of the brain",
        needs=("brain_overlap_after",),
        found="After the whole mapping the two brain masks overlap with a Dice of {value}",
        advice="Look at both masks: one of them is cut, or holds more than the brain.",
        bends=True,
    ),
    Rule(
        "rotation",
        "Rotation of the affine",
        ABOVE,
        Limits(warn=30, fail=60),
        why="angle of the affine's rotation, degrees",
        finds="a tilted head, a wrong orientation in the header",
        needs=("affine_rotation_deg",),
        found="The affine turns the brain by {value}",
        unit=" degrees",
        advice="Look at the orientation in both headers, and for a mirrored image.",
    ),
    Rule(
        "scale",
        "Scale of the affine",
        ABOVE,
        Limits(warn=1.25, fail=1.5),
        why="largest factor by which the affine scales, up or down",
        finds="a brain stretched over another that is cut",
        needs=("affine_scale_min", "affine_scale_max"),
        found=(
            "The affine scales the brain by factors of {affine_scale_min:.2f} to"
            " {affine_scale_max:.2f}, that is by {value} at most, up or down"
        ),
        advice="Look whether one of the brain masks is cut, or holds more than the brain.",
        measure=lambda low, high: max(high, 1 / low),
    ),
    Rule(
        "outliers",
        "Intensity outliers",
        ABOVE,
        Limits(warn=8, fail=20),
        why=(
            "share of the brain where the images differ by more than the brain's contrast, "
            "percent; 100 for images of unlike contrast"
        ),
        finds="missing tissue, large lesions, artefacts",
        needs=("outlier_percent",),
        found=(
            "In {value} of the brain the fixed and the warped image differ by more than the"
            " brain's own contrast"
        ),
        unit=" %",
        advice=(
            "Look at the picture of differences for lesions, artefacts, noise and missing tissue."
        ),
        bends=True,
    ),
    Rule(
        "cut",
        "Brain cut off",
        ABOVE,
        Limits(warn=15, fail=60),
        why="area in which a face of either image cuts its brain, percent of volume^(2/3)",
        finds="a field of view that ends in the brain",
        needs=("cut_percent",),
        found=(
            "A face of the image cuts the brain over an area of {value} of its size (volume^(2/3))"
        ),
        unit=" %",
        advice="Look where the scan ends: what lies beyond is missing.",
    ),
    Rule(
        "outside",
        "Field of view",
        ABOVE,
        Limits(warn=2, fail=10),
        why="share of the fixed brain mapped outside the moving image, percent",
        finds="a fixed brain that the moving image does not show in full",
        needs=("outside_percent",),
        found="{value} of the fixed brain is mapped outside the moving image",
        unit=" %",
        advice="The moving scan does not show this part: leave it out of any measurement.",
    ),
    Rule(
        "labels_outside",
        "Labels on the brain",
        ABOVE,
        Limits(warn=5, fail=10),
        why="share of the labels' voxels outside the brain mask, percent",
        finds="labels of another subject or another grid",
        needs=("labels_outside_percent",),
        found="{value} of the labelled voxels lie outside the brain mask",
        unit=" %",
        advice="Look whether the labels, the image and the mask belong to the same subject.",
    ),
    Rule(
        "labels_lost",
        "Labels lost",
        ABOVE,
        Limits(warn=0, fail=5),
        why=(
            "scored labels of which the warped map has no voxel left; a mean over a hundred labels"
            " hardly tells"
        ),
        finds="structures that were squeezed to nothing, or lie beyond the image",
        needs=("labels_lost",),
        found="{value} of the scored labels have no voxel left after the whole mapping",
        advice="Look at these structures: their rows in labels.tsv have a Dice of 0.",
    ),
)
