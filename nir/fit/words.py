"""A fit in words, for a paper and under its pictures; from records, which are plain mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nir.losses.similarities.base import compared


def _level(phase: Mapping[str, Any]) -> str:
    """Word the resolution and the similarity of a phase."""
    spacing = phase["resolution_mm"]
    where = f"at {spacing:g} mm" if spacing else "on the fixed image's own grid"
    chosen = compared([phase]).values()
    names = [
        x.sentence(phase["radius"]) + (f" (weight {x.weight:g})" if len(chosen) > 1 else "")
        for x in chosen
    ]
    return f"{where} by {' and '.join(names)}"


def _search(phase: Mapping[str, Any]) -> str:
    return (
        f"a search over all displacements of up to {phase['reach']} voxels along each axis"
        f" {_level(phase)}, smoothed by a Gaussian of {phase['elasticity_vox']:g} voxels"
    )


def _fluid(phase: Mapping[str, Any]) -> str:
    return (
        f"at most {phase['steps']} fluid steps {_level(phase)}, steps smoothed by a Gaussian of"
        f" {phase['viscosity_vox']:g} and the displacement by one of {phase['elasticity_vox']:g}"
        " voxels"
    )


def _field(phase: Mapping[str, Any]) -> str:
    encoding = {"grid": "multi-resolution grid", "fourier": "Fourier"}[phase["encoding"]]
    layers = f"{phase['hidden']} hidden layer{'s' * (phase['hidden'] > 1)}"
    return (
        f"a neural field ({encoding} features, {layers} of {phase['width']} units) fitted in at"
        f" most {phase['steps']} steps of Adam {_level(phase)}, weight {phase['smoothness']:g} on"
        f" smoothness and {phase['jacobian']:g} on folding"
    )


SOLVERS = {"search": _search, "fluid": _fluid, "field": _field}


def fit_in_words(fit: Mapping[str, Any]) -> str:
    """Describe the phases of a fit and what was made of them, to the end of the sentence."""
    phases = fit["phases"]
    listed = "; ".join(f"({n}) {SOLVERS[p['solver']](p)}" for n, p in enumerate(phases, 1))
    text = f"{len(phases)} phase{'s' * (len(phases) > 1)}: {listed}."
    if any(p["solver"] == "field" for p in phases):
        text += (
            " Fields were stationary velocities, integrated by scaling and squaring."
            if fit["model"] == "velocity"
            else " Fields were displacements."
        )
    if fit["repair_folds"]:
        text += " Cells that folded were smoothed at the end."
    return text


def stage_titles(fit: Mapping[str, Any]) -> list[str]:
    """Title each phase by its number, solver and resolution."""
    return [_stage_title(*numbered) for numbered in enumerate(fit["phases"])]


def _stage_title(number: int, phase: Mapping[str, Any]) -> str:
    spacing_mm = phase["resolution_mm"]
    level = f"{spacing_mm:g} mm" if spacing_mm else "own grid"
    return f"phase {number}: {phase['solver']}, {level}"
