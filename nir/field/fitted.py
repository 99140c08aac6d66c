"""The fitted field as a file: its weights, its grids and where it comes from, in safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from nir.errors import NirError, fault
from nir.field.network import FieldNetwork
from nir.field.parts import DenseField, NeuralField, Part
from nir.field.settings import FieldSettings, FlowSettings
from nir.geometry.grid import Array, Grid, apply_matrix, scaled_map
from nir.geometry.inverse import solve
from nir.io.files import atomic, readable
from nir.settings import Settings

Kind = TypeVar("Kind", bound=Settings)
CHUNK = 2**18  # points evaluated at once

FORMAT = "nir-field-1"


@dataclass
class FittedField:
    """The map of a registration, evaluated from what was fitted: x -> A(x + u(x)), LPS mm.

    Args:
        parts: displacements over the cube of ``box``; the last one acts first.
        box: grid of the fit, the brain's part of the fixed grid. Outside it u is that of the
            nearest point of its border.
        grid: the whole fixed grid.
        affine_lps: A, 4 x 4.
        provenance: settings, seed, versions and inputs of the fit.

    Notes:
        Nothing is sampled on a grid in between, so values hold at any point. The exported warps
        differ a little from this: by what lets the two directions undo each other between their
        nodes (`nir.geometry.reconcile`), where the fit repaired folded cells
        (`nir.geometry.folds.unfold`), and by rounding to 1/1024 mm.
    """

    parts: list[Part]
    box: Grid
    grid: Grid
    affine_lps: Array
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int | None:
        """How many numbers it has; None: not all of it are neural fields."""
        parts = [part for part in self.parts if isinstance(part, NeuralField)]
        if len(parts) < len(self.parts):
            return None
        return sum(value.numel() for part in parts for value in part.model.parameters())

    def __call__(self, points: Array) -> Array:
        """Map fixed points to moving points, LPS mm, shape (..., 3)."""
        points = np.asarray(points, dtype=float)
        flat = points.reshape(-1, 3)
        moved = [part + self._u_lps(part) for part in _chunks(flat)]
        return apply_matrix(self.affine_lps, np.concatenate(moved)).reshape(points.shape)

    def inverse(self) -> InverseField:
        """Return the map from moving to fixed points."""
        return InverseField(self)

    def velocity(self, points: Array, number: int) -> Array:
        """Return the stationary velocity of a part, LPS mm per unit time, shape (N, 3).

        Args:
            points: LPS mm, shape (N, 3).
            number: of the part, from 0.

        Raises:
            NirError: that part is a displacement, which has no velocity.
        """
        part = self.parts[number]
        if not isinstance(part, NeuralField) or part.config.model != "velocity":
            raise NirError(
                f"part {number} of this field is a displacement and has no velocity: fit it with a"
                " phases of the solver 'field' and the model 'velocity'"
            )
        with torch.no_grad():
            found = [part.velocity(self._cube(chunk)) for chunk in _chunks(points)]
        return torch.cat(found).numpy() @ self.box.axis_to_lps.T

    def jacobian(self, points: Array) -> Array:
        """Return the Jacobian matrices of the whole map at points, shape (N, 3) -> (N, 3, 3).

        Exact derivatives by automatic differentiation; where a field is linear between the nodes
        of a lattice they jump from cell to cell.
        """
        to_axis = np.linalg.inv(self.box.axis_to_lps)
        found = []
        for chunk in _chunks(points):
            cube = self._cube(chunk).requires_grad_()
            u = self._u_axis(cube)
            rows = [
                torch.autograd.grad(u[:, c].sum(), cube, retain_graph=True)[0] for c in range(3)
            ]
            by_axis = torch.stack(rows, 1).numpy() * (2 / self.box.extent_mm)
            by_lps = self.box.axis_to_lps @ by_axis @ to_axis
            found.append(self.affine_lps[:3, :3] @ (np.eye(3) + by_lps))
        return np.concatenate(found)

    def scaled(self, factor: float) -> FittedField:
        """Return the field in a space that is so many times larger."""
        return replace(
            self,
            parts=[part.scaled(factor) for part in self.parts],
            box=self.box.scaled(factor),
            grid=self.grid.scaled(factor),
            affine_lps=scaled_map(self.affine_lps, factor),
        )

    def save(self, path: Path | str) -> None:
        """Write weights, grids and provenance."""
        from safetensors.torch import save_file

        tensors = {
            "affine_lps": torch.from_numpy(self.affine_lps),
            "box_affine": torch.from_numpy(self.box.affine),
            "grid_affine": torch.from_numpy(self.grid.affine),
        }
        told: list[dict[str, Any]] = []
        for number, part in enumerate(self.parts):
            if isinstance(part, DenseField):
                state = {"u_mm": part.u_mm}
                told.append({"kind": "lattice"})
            else:
                state = part.model.state_dict()
                config, settings = (x.model_dump(mode="json") for x in (part.config, part.settings))
                told.append(
                    {"kind": "neural", "fit": config, "phase": settings, "shape": part.shape}
                )
            tensors |= {f"{number}.{name}": value for name, value in state.items()}
        content = {
            "format": FORMAT,
            "parts": told,
            "box_shape": self.box.shape,
            "grid_shape": self.grid.shape,
            "provenance": self.provenance,
        }
        ready = {name: _short(value.detach().cpu()) for name, value in tensors.items()}
        with atomic(path) as temporary:
            save_file(ready, temporary, metadata={"nir": json.dumps(content, sort_keys=True)})

    @classmethod
    def load(cls, path: Path | str) -> FittedField:
        """Read a field.

        Raises:
            NirError: the file is damaged, or another kind of safetensors.
        """
        from safetensors import safe_open

        cure = "restore it, or fit the pair again"
        with readable(path, "a fitted field", cure), safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {}).get("nir", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if told.get("format") != FORMAT:
            found, cure = "other weights", "give a field.safetensors of nir register"
            raise NirError(fault(path, f"a field of the form {FORMAT}", found, cure))
        with readable(path, "a whole fitted field", cure):
            return cls._from_tensors(told, tensors)

    @classmethod
    def _from_tensors(cls, told: dict[str, Any], tensors: dict[str, Tensor]) -> FittedField:
        """Build a field from what `save` wrote."""
        box, grid = (
            Grid(tuple(told[f"{name}_shape"]), tensors[f"{name}_affine"].double().numpy())
            for name in ("box", "grid")
        )
        extent = torch.tensor(box.extent_mm, dtype=torch.float32)
        parts: list[Part] = []
        for number, kind in enumerate(told["parts"]):
            prefix = f"{number}."
            state = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if kind["kind"] == "lattice":
                parts.append(DenseField(state["u_mm"].float()))
                continue
            settings = _known(FieldSettings, kind["phase"])
            model = FieldNetwork(settings, 0, extent)
            model.load_state_dict(state)
            config = _known(FlowSettings, kind["fit"])
            parts.append(NeuralField(model, settings, config, tuple(kind["shape"]), extent))
        return cls(parts, box, grid, tensors["affine_lps"].double().numpy(), told["provenance"])

    def _cube(self, points: Array) -> Tensor:
        """Convert LPS mm, shape (N, 3), to the nearest cube coordinates of the box."""
        cube = self.box.vox_to_cube(self.box.lps_to_vox(points)).clip(-1, 1)
        return torch.from_numpy(cube.astype(np.float32))

    def _u_axis(self, cube: Tensor) -> Tensor:
        """Return the composed displacement at cube points, shape (N, 3), in ``axis`` mm."""
        half = torch.tensor(self.box.extent_mm / 2, dtype=torch.float32)
        u = torch.zeros_like(cube)
        for part in reversed(self.parts):
            at = (cube + u / half).clamp(-1, 1)
            u = u + part.at(at.T[None, :, :, None, None])[0, :, :, 0, 0].T
        return u

    @torch.no_grad()
    def _u_lps(self, points: Array) -> Array:
        u_axis = self._u_axis(self._cube(points)).numpy().astype(float)
        return u_axis @ self.box.axis_to_lps.T


@dataclass(frozen=True)
class InverseField:
    """The inverse of a fitted field, solved at each point to a thousandth of a millimetre."""

    origin: FittedField

    def __call__(self, points: Array) -> Array:
        """Map moving points to fixed points, LPS mm, shape (..., 3)."""
        box = self.origin.box
        points = np.asarray(points, dtype=float)
        start = apply_matrix(np.linalg.inv(self.origin.affine_lps), points.reshape(-1, 3))
        half = torch.tensor(box.extent_mm / 2, dtype=torch.float32)
        found = []
        with torch.no_grad():
            for chunk in _chunks(start):
                cube = box.vox_to_cube(box.lps_to_vox(chunk)).astype(np.float32)
                goal = torch.from_numpy(cube) * half

                def displace(q: Tensor) -> Tensor:
                    return self.origin._u_axis((q / half).clamp(-1, 1))

                at = (solve(displace, goal) / half).numpy().astype(float)
                found.append(apply_matrix(box.vox_to_lps, box.cube_to_vox(at)))
        return np.concatenate(found).reshape(points.shape)

    def inverse(self) -> FittedField:
        """Return the map that goes back."""
        return self.origin


def _short(values: Tensor) -> Tensor:
    """Return numbers in half precision where it tells them as well."""
    half = values.half()
    return (half if torch.equal(half.to(values.dtype), values) else values).contiguous()


def _chunks(points: Array) -> list[Array]:
    """Cut points, shape (N, 3), into pieces that fit the memory."""
    return np.array_split(points, max(1, -(-len(points) // CHUNK)))


def _known(kind: type[Kind], content: dict[str, Any]) -> Kind:
    """Read settings from what was written with all those of a fit."""
    return kind.model_validate({k: v for k, v in content.items() if k in kind.model_fields})
