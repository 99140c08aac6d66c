"""What the methods text says is what ran: every setting that acts, and nobody who did not."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pair_pages import NIR, result
from helpers.synthetic import texture

from nir.engines.nir import Nir
from nir.fit.pair import fit_pair
from nir.fit.presets import PRESETS
from nir.fit.settings import FitConfig, Phase, fit_config
from nir.fit.sizes import level_grid
from nir.fit.words import fit_in_words
from nir.geometry.grid import Grid
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.report.methods_text import citations, methods_text
from nir.shipped import REPORTS

SEARCH = {"solver": "search", "reach": 1, "radius": 1}
FLUID = {"solver": "fluid", "steps": 2, "radius": 1}
FIELD = {"solver": "field", "steps": 3, "radius": 1, "patience": 3, "encoding_levels": [4]}
BASES: dict[str, dict[str, Any]] = {
    "search": SEARCH,
    "search by edges": SEARCH | {"similarity": "ngf"},
    "fluid": FLUID,
    "fluid by two": FLUID | {"similarity": {"ngf": 1.0, "lncc": 1.0}},
    "field": FIELD,
    "field in patches": FIELD | {"sampler": "mini-patch", "patches": 2, "patch_size": 8},
    "field at points": FIELD | {"sampler": "random", "samples": 64, "similarity": "mse"}
    | {"lattice": None, "interpolation": "cubic"},
    "field of waves": FIELD | {"encoding": "fourier", "activation": "sine", "bounded": True}
    | {"optimiser": "adam", "jacobian": 0.0, "dropout": 0.3, "lattice": None}
    | {"fourier_features": 32, "width": 32, "patches": 2, "patch_size": 8},
    "distil": FIELD | {"solver": "distil", "encoding": "spline", "lattice": None, "width": 4},
}  # fmt: skip
OTHERS: dict[str, tuple[Any, ...]] = {
    "solver": ("search", "fluid", "field", "distil"),
    "sampler": ("downsize", "mini-patch"),
    "resolution_mm": (1.2,),
    "smoothing_mm": (1.0,),
    "stride": (2,),
    "patches": (3,),
    "patch_size": (9,),
    "samples": (80,),
    "interpolation": ("linear", "nearest"),
    "similarity": ("lncc", "mse", {"ngf": 1.0, "lncc": 3.0}, {"mse": 2.0, "lncc": 1.0}),
    "radius": (2,),
    "dropout": (0.0, 0.5),
    "smoothness": (8.0,),
    "jacobian": (0.0, 9.0),
    "jacobian_margin": (0.9,),
    "steps": (5,),
    "optimiser": ("adam", "tensor-adam"),
    "lr": (0.1,),
    "lr_end": (0.5,),
    "reach": (2,),
    "step_vox": (0.8,),
    "viscosity_vox": (2.0,),
    "elasticity_vox": (1.1,),
    "incompressibility_vox": (0.3,),
    "patience": (1,),
    "tolerance": (5.0,),
    "lattice": (None, 3),
    "encoding": ("grid", "fourier", "spline"),
    "encoding_mm": (3.0,),
    "encoding_levels": ((3, 5),),
    "encoding_features": (3,),
    "fourier_features": (16,),
    "fourier_scale": (2.0,),
    "width": (8,),
    "hidden": (2,),
    "activation": ("relu", "sine"),
    "gain_mm": (2.5,),
    "bounded": (True, False),
    "precision": ("mixed",),
}
OF_THE_FIT: dict[str, tuple[Any, ...]] = {
    "model": ("displacement", "velocity"),
    "squarings": (2,),
}


def map_of(fit: FitConfig) -> np.ndarray:
    """Fit a small pair of textures."""
    shape = (20, 21, 22)
    grid = Grid(shape, np.eye(4))
    fixed, moving = (torch.from_numpy(texture(shape, 2.0, seed=n)) for n in (1, 2))
    return fit_pair(fixed, moving, torch.ones(shape), grid, fit, seed=3).u_mm.numpy()


@pytest.mark.parametrize("name", BASES)
def test_a_setting_that_changes_the_map_changes_the_text(name: str) -> None:
    assert set(OTHERS) == set(Phase.model_fields)
    base = BASES[name]

    def told(phase: dict[str, Any], **of_the_fit: Any) -> tuple[np.ndarray, str] | None:
        try:
            phases = [FLUID, phase] if name == "distil" else [phase]  # there is what it follows
            fit = FitConfig.model_validate({"phases": phases} | of_the_fit)
        except ValueError:
            return None  # settings that exclude each other
        return map_of(fit), fit_in_words(fit.model_dump(mode="json"))

    before = told(base)
    assert before is not None
    changed = {(k, str(v)): told(base | {k: v}) for k in OTHERS for v in OTHERS[k]}
    changed |= {(k, str(v)): told(base, **{k: v}) for k in OF_THE_FIT for v in OF_THE_FIT[k]}
    found = {key: one for key, one in changed.items() if one is not None}
    acts = {key for key, (u, _) in found.items() if not np.array_equal(u, before[0])}
    silent = {key for key, (_, text) in found.items() if text == before[1]}
    assert len(acts) > 8  # the change reaches the fit
    assert acts & silent == set()


@pytest.mark.parametrize("preset", PRESETS)
def test_cited_is_what_ran(preset: str) -> None:
    method = Nir.Settings(name="n", engine="nir", preset=preset)
    phases = method.fit.phases
    found = result(method, [1])
    text = " ".join(methods_text(found, PreprocessConfig(), AffineConfig(), "nearest"))
    cited = citations(found, PreprocessConfig())
    solvers, compared = {p.solver for p in phases}, {s for p in phases for s in p.similarity}
    expected = {
        "sun2024nir": ("Sun et al., 2024", bool(solvers & {"field", "distil"})),
        "rueckert1999ffd": ("Rueckert et al., 1999", "distil" in solvers),
        "heinrich2014convex": ("Heinrich et al., 2014", "search" in solvers),
        "siebert2021convexadam": ("Siebert et al., 2021", "search" in solvers),
        "yushkevich2016greedy": ("Yushkevich et al., 2016", "fluid" in solvers),
        "vercauteren2009demons": ("Vercauteren et al., 2009", "fluid" in solvers),
        "christensen1996deformable": (
            "Christensen et al., 1996",
            any(p.solver == "fluid" and p.incompressibility_vox for p in phases),
        ),
        "avants2008syn": ("Avants et al., 2008", "lncc" in compared),
        "haber2006ngf": ("Haber and Modersitzki, 2006", "ngf" in compared),
        "liu2024jacobian": ("Liu et al., 2024", True),
    }
    known = (REPORTS / "references.bib").read_text(encoding="utf-8")
    for key, (words, ran) in expected.items():
        assert f"{{{key}," in known
        assert (key in cited) == (words in text) == ran, key
    named = re.findall(r"[A-Z]\w+ (?:et al\.|and \w+), \d{4}", text)
    assert all(text.count(f"({words})") <= 1 for words in named)
    assert set(cited) <= {*expected, "tustison2021antsx"}
    assert ("neural field" in text) == bool(solvers & {"field", "distil"})
    assert re.search(r"at most \d+ fluid", text) is None  # they are all taken


def test_a_field_is_told_with_its_size_and_what_it_missed() -> None:
    def told(**changes: Any) -> str:
        return " ".join(
            methods_text(result(NIR, [], **changes), PreprocessConfig(), AffineConfig(), "nearest")
        )

    assert "parameters" not in told(field_parameters=None)
    assert "field of 1,675,000 parameters" in (fitted := told(field_parameters=1675000))
    assert "alone was kept" not in fitted
    kept = told(field_parameters=9, field_missed_mm={"mean": 0.0712, "p99": 0.3})
    assert "It alone was kept" in kept
    assert "led 0.071 mm from what was registered" in kept


def test_levels_of_a_coarse_image_are_not_told_as_finer_than_it() -> None:
    fit = fit_config("default", {})
    coarse = Grid((40, 48, 44), np.diag([4.0, 4.0, 5.0, 1.0]))
    assert min(level_grid(coarse, phase).spacing.min() for phase in fit.phases) > 3.9
    sentence = "No level was finer than the shortest edge of the fixed image's voxels."
    assert sentence in fit_in_words(fit.model_dump(mode="json"))
    own = FitConfig.model_validate({"phases": [FLUID]})
    assert sentence not in fit_in_words(own.model_dump(mode="json"))


def test_guides_are_told_with_their_weights() -> None:
    guides = {"keypoints": 4, "structures": [2, 5]}
    texts = []
    for weight in (0.001, 0.02):
        method = Nir.Settings(name="n", engine="nir", set={"keypoint_weight": weight})
        found = result(method, [], guides=guides)
        texts.append(" ".join(methods_text(found, PreprocessConfig(), AffineConfig(), "nearest")))
    assert "4 keypoints (weight 0.02) and the structures 2, 5 (weight 0.5)" in texts[1]
    assert texts[0] != texts[1]
    assert "keypoint" not in " ".join(
        methods_text(result(NIR, []), PreprocessConfig(), AffineConfig(), "nearest")
    )


@pytest.mark.parametrize("key, value", [("margin_mm", 4.0), ("repair_folds", False)])
def test_the_frame_of_a_fit_is_told(key: str, value: Any) -> None:
    fits = [fit_config("default", dict.fromkeys(keys, value)) for keys in ((), (key,))]
    assert len({fit_in_words(fit.model_dump(mode="json")) for fit in fits}) == 2
