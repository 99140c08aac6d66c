"""Settings of a neural field, and of how it stands for a map."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nir.settings import Count, Positive, Settings


class FieldSettings(Settings):
    """What a neural field is made of."""

    lattice: Count | None = Field(
        2,
        description="spacing of the control lattice on which the field is evaluated, voxels of the"
        " level; null: evaluate the field at every sampled coordinate",
    )
    encoding: Literal["grid", "fourier", "spline"] = Field(
        "grid",
        description="grid: dense multi-resolution features; fourier: Gaussian Fourier; spline:"
        " displacements of nodes, read by cubic B-splines",
    )
    encoding_levels: tuple[Count, ...] = Field(
        (8, 16, 32, 64), min_length=1, description="grid: nodes along each axis, coarse to fine"
    )
    encoding_mm: Positive = Field(2.5, description="spline: spacing of the nodes, mm")
    encoding_features: Count = Field(4, description="grid: features a node and level")
    fourier_features: Count = Field(128, description="fourier: frequencies")
    fourier_scale: Positive = Field(1.0, description="fourier: standard deviation of them")
    width: Count = Field(32, description="units of each hidden layer of the MLP")
    hidden: Count = Field(1, description="hidden layers of the MLP")
    activation: Literal["relu", "sine"] = Field("relu", description="of the hidden layers")
    gain_mm: Positive = Field(1.0, description="millimetres per unit of the network's output")
    precision: Literal["single", "mixed"] = Field(
        "single",
        description="mixed: the products of a sine MLP on Fourier features are fitted in bfloat16,"
        " where the processor has it; what is read from the field afterwards is not",
    )
    bounded: bool = Field(False, description="bound each component to the gain by tanh")

    @model_validator(mode="after")
    def _mixed_is_known(self) -> FieldSettings:
        chosen = self.encoding, self.activation, self.lattice
        if self.precision == "mixed" and chosen != ("fourier", "sine", None):
            raise ValueError(
                "precision 'mixed' is for encoding 'fourier', activation 'sine' and lattice null:"
                f" found {', '.join(map(str, chosen))}"
            )
        return self


FOLLOWER = {
    "encoding": "spline",
    "lattice": None,
    "encoding_mm": 2.25,
    "activation": "sine",
    "width": 16,
}
"""Settings of a field that follows what was found."""


class FlowSettings(Settings):
    """How the vectors of a field stand for a map."""

    model: Literal["displacement", "velocity"] = Field(
        "velocity", description="velocity: stationary, integrated over unit time"
    )
    squarings: Count = Field(5, description="velocity on a lattice: scaling and squaring steps")
