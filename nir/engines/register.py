"""All engines behind one door."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nir.cohort.prepared import ImagePair
from nir.engines.affine import _affine_only
from nir.engines.base import Registration
from nir.engines.nir import _nir
from nir.engines.settings import Method
from nir.engines.syn import _syn
from nir.fit.pair import Progress


def register(
    pair: ImagePair,
    method: Method,
    seed: int,
    device: torch.device,
    progress: Progress | None = None,
    log: Callable[[str], None] = print,
) -> Registration:
    """Register a pair with the engine that the method names."""
    if method.engine == "affine":
        return _affine_only(pair)
    if method.engine == "syn":
        return _syn(pair, method, seed)
    return _nir(pair, method.fit, seed, device, progress, log)
