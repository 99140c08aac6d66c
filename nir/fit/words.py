"""A fit in words, for a paper and under its pictures; from records, which are plain mappings.

Whoever reads the words can run the fit again: every setting that acts is in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nir.losses.similarities.base import compared

Words = Callable[[Mapping[str, Any]], str]

INVERSE = (
    " The inverse was found at each voxel of the moving image by iteration, and both directions"
    " were then adjusted to undo each other, short of what would have folded them."
)


@dataclass(frozen=True)
class Told:
    """How a solver is told.

    Args:
        words: of a phase.
        cites: keys of ``reports/references.bib``; the words name the same works.
        cites_for: by setting, the key of what its words name where it is not 0.
    """

    words: Words
    cites: tuple[str, ...]
    cites_for: Mapping[str, str] = field(default_factory=dict)

    def works(self, phase: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the keys of the works behind a phase."""
        return *self.cites, *(key for name, key in self.cites_for.items() if phase[name])


def _level(phase: Mapping[str, Any]) -> str:
    """Word the resolution, the smoothing and the similarity of a phase."""
    spacing, smoothing = phase["resolution_mm"], phase["smoothing_mm"]
    where = f"at {spacing:g} mm" if spacing else "on the fixed image's own grid"
    where += f" on images smoothed by a Gaussian of {smoothing:g} mm" if smoothing else ""
    chosen = compared([phase]).values()
    names = [
        x.sentence(phase["radius"]) + (f" (weight {x.weight:g})" if len(chosen) > 1 else "")
        for x in chosen
    ]
    return f"{where} by {' and '.join(names)}"


def _search(phase: Mapping[str, Any]) -> str:
    windowed = all(x.windowed for x in compared([phase]).values())
    averaged = "" if windowed else f", averaged over windows of {2 * phase['radius'] + 1}³ samples"
    return (
        f"a search over all displacements of up to {phase['reach']} voxels along each axis"
        f" {_level(phase)}{averaged}, coupled with a field smoothed by a Gaussian of"
        f" {phase['elasticity_vox']:g} voxels, from both sides, the images halfway to each other"
        " (Heinrich et al., 2014; Siebert et al., 2021)"
    )


def _fluid(phase: Mapping[str, Any]) -> str:
    brought, by = phase["interpolation"] == "cubic", phase["incompressibility_vox"]
    elastic = ", as in a linear elastic body (Christensen et al., 1996)"
    volumes = f", changes of volume by {by:g} voxels more{elastic}" if by else ""
    start = ", both images brought to where it begins by cubic B-splines" if brought else ""
    smoothed = "what this phase adds to either" if brought else "both compositions"
    return (
        f"{phase['steps']} fluid steps {_level(phase)}{start}, each the gradient smoothed by a"
        f" Gaussian of {phase['viscosity_vox']:g} voxels over its curvature (Vercauteren et al.,"
        f" 2009), no longer than {phase['step_vox']:g} voxels, half of it taken by either image,"
        " both read halfway between their voxels, and composed with all before it (Avants et al.,"
        f" 2008), and {smoothed} smoothed by a Gaussian of {phase['elasticity_vox']:g} voxels"
        f" (Yushkevich et al., 2016){volumes}; at the end also where they squeezed too strongly for"
        " their inverses to be sampled"
    )


def _field(phase: Mapping[str, Any]) -> str:
    adam = {"adam": "Adam", "tensor-adam": "Adam with one second moment a tensor"}
    sampled = {
        "downsize": "every voxel"
        if phase["stride"] == 1
        else f"one voxel in {phase['stride']} along each axis",
        "mini-patch": f"{phase['patches']} cubes of {phase['patch_size']}³ voxels",
        "random": f"{phase['samples']} random voxels",
    }
    lost = f" less {100 * phase['dropout']:g} % at random" if phase["dropout"] else ""
    folding = (
        f"{phase['jacobian']:g} on determinants below {phase['jacobian_margin']:g}"
        if phase["jacobian"]
        else "none on folding"
    )
    return (
        f"a neural field ({_network(phase)}; Sun et al., 2024) fitted {_level(phase)}, the moving"
        f" image read by {phase['interpolation']} interpolation, weight {phase['smoothness']:g} on"
        f" smoothness and {folding}, in at most {phase['steps']} steps of"
        f" {adam[phase['optimiser']]} on {sampled[phase['sampler']]}{lost}, with a learning rate of"
        f" {phase['lr']:g} that falls to {phase['lr_end']:g} of it, ended by {phase['patience']}"
        f" steps without a fall of the loss by {phase['tolerance']:g}"
    )


def _distil(phase: Mapping[str, Any]) -> str:
    spacing = phase["resolution_mm"]
    where = f"at {spacing:g} mm" if spacing else "on the fixed image's own grid"
    return (
        f"a neural field ({_network(phase)}; Sun et al., 2024; Rueckert et al., 1999) that follows"
        f" what was found, {where}, by least squares of its nodes and of its last layer, all its"
        " numbers in half precision"
    )


def _network(phase: Mapping[str, Any]) -> str:
    nodes = ", ".join(map(str, phase["encoding_levels"]))
    features = {
        "grid": f"multi-resolution grid features, {nodes} nodes along each axis,"
        f" {phase['encoding_features']} features a node",
        "fourier": f"{phase['fourier_features']} Fourier features of scale"
        f" {phase['fourier_scale']:g}",
        "spline": f"displacements of nodes {phase['encoding_mm']:g} mm apart, or a voxel where that"
        " is more, read by cubic B-splines, to which the layers add",
    }
    layers = f"{phase['hidden']} hidden layer{'s' * (phase['hidden'] > 1)}"
    unit = {"relu": "ReLU", "sine": "sine"}[phase["activation"]]
    bound = ", bounded by tanh" if phase["bounded"] else ""
    lattice = phase["lattice"]
    where = f"at every {lattice} voxels" if lattice else "at each sampled point"
    half = ", with products in bfloat16 where the processor has them"
    fitted = half if phase["precision"] == "mixed" else ""
    return (
        f"{features[phase['encoding']]}; {layers} of {phase['width']} units, {unit}; output in"
        f" units of {phase['gain_mm']:g} mm{bound}; evaluated {where}{fitted}"
    )


SOLVERS = {
    "search": Told(_search, ("heinrich2014convex", "siebert2021convexadam")),
    "fluid": Told(
        _fluid,
        ("avants2008syn", "yushkevich2016greedy", "vercauteren2009demons"),
        {"incompressibility_vox": "christensen1996deformable"},
    ),
    "field": Told(_field, ("sun2024nir",)),
    "distil": Told(_distil, ("sun2024nir", "rueckert1999ffd")),
}


def fit_in_words(fit: Mapping[str, Any]) -> str:
    """Describe the phases of a fit and what was made of them, to the end of the sentence."""
    phases = fit["phases"]
    listed = "; ".join(f"({n}) {SOLVERS[p['solver']].words(p)}" for n, p in enumerate(phases, 1))
    text = f"{len(phases)} phase{'s' * (len(phases) > 1)}: {listed}."
    if any(p["resolution_mm"] for p in phases):
        text += " No level was finer than the shortest edge of the fixed image's voxels."
    if fields := [p for p in phases if p["solver"] == "field"]:
        text += _integration(fit, any(p["lattice"] for p in fields))
    text += (
        f" The fixed brain's box and {fit['margin_mm']:g} mm around it were fitted; the moving"
        " image was brought there by cubic B-splines."
    )
    if fit["repair_folds"]:
        text += (
            " Cells in which a tetrahedron between the voxels of the displacement or of its inverse"
            " turned over were smoothed."
        )
    return _cited_once(text + INVERSE)


def _integration(fit: Mapping[str, Any], on_lattice: bool) -> str:
    if fit["model"] == "displacement":
        return " Fields were displacements."
    how = f"{fit['squarings']} scaling and squaring steps" if on_lattice else "Runge-Kutta steps"
    return f" Fields were stationary velocities, integrated by {how}."


def _cited_once(text: str) -> str:
    """Leave out works in parentheses of their own that were named before."""
    told: set[str] = set()

    def keep(found: re.Match[str]) -> str:
        new = found[0] not in told
        told.add(found[0])
        return found[0] if new else ""

    return re.sub(r" \([A-Z][^():]*, \d{4}\)", keep, text)


def works_of(fit: Mapping[str, Any]) -> tuple[str, ...]:
    """Return whom the solvers of a fit's phases go back to, keys of ``reports/references.bib``."""
    return tuple(dict.fromkeys(k for p in fit["phases"] for k in SOLVERS[p["solver"]].works(p)))


def stage_titles(fit: Mapping[str, Any]) -> list[str]:
    """Title each phase by its number, solver and resolution."""
    return [_stage_title(*numbered) for numbered in enumerate(fit["phases"])]


def _stage_title(number: int, phase: Mapping[str, Any]) -> str:
    spacing_mm = phase["resolution_mm"]
    level = f"{spacing_mm:g} mm" if spacing_mm else "own grid"
    return f"phase {number}: {phase['solver']}, {level}"
