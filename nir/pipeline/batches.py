"""Which pairs share a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nir.io.layout import pair_name

PARALLEL_JOBS, LARGEST_BATCH = 32, 20  # what batches are made for where none are asked for


def batch_size(pairs: int) -> int:
    """Return a size of batches that leaves enough jobs to run beside each other.

    A job takes seconds to start, in which a small pair is half done.
    """
    return min(LARGEST_BATCH, max(1, pairs // PARALLEL_JOBS))


def plan_batches(
    pairs: Sequence[tuple[str, str]], size: int, known: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, list[tuple[str, str]]]:
    """Put pairs into batches; those of an earlier plan stay together, new ones are added behind.

    Args:
        pairs: (fixed, moving).
        size: pairs in a batch at most; 1: each batch is named after its pair.
        known: the plan of the run before, batch to pairs.
    """
    if size == 1:
        return {pair_name(*pair): [pair] for pair in pairs}
    left = dict.fromkeys(pairs)
    plan: dict[str, list[tuple[str, str]]] = {}
    for name, members in known.items():
        kept = [(f, m) for f, m in members if (f, m) in left]
        if kept and len(kept) <= size:
            plan[name] = kept
            for pair in kept:
                del left[pair]
    new = list(left)
    number = 1 + max((int(n) for n in known if n.isdigit()), default=0)
    for start in range(0, len(new), size):
        plan[f"{number:05}"] = new[start : start + size]
        number += 1
    return plan
