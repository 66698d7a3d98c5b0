# SPDX-License-Identifier: Apache-2.0
"""Compare two samplers that alternate, and make the printed row from their medians.

A sampler runs its side once and returns the result in the row's unit.  The first side changes every
round, so that neither always runs with caches that the other has warmed.  Round 0 is discarded.
"""

import statistics
from collections.abc import Callable

Sampler = Callable[[], float]
Row = dict[str, str | int | float]


def compare(bench: str, ours: Sampler, reference: Sampler, *, rounds: int, unit: str) -> Row:
    """Run both sides alternately, `rounds` times each, and return the row of their medians."""
    taken: dict[Sampler, list[float]] = {ours: [], reference: []}
    for number in range(rounds + 1):
        for sampler in (ours, reference) if number % 2 else (reference, ours):
            sample = sampler()
            if number:
                taken[sampler].append(sample)
    return row(bench, taken[ours], taken[reference], unit=unit)


def row(bench: str, ours: list[float], reference: list[float], *, unit: str) -> Row:
    """Return the row to print for two equally long series of samples."""
    if len(ours) != len(reference):
        msg = f"expected two series of one length, got {len(ours)} and {len(reference)}"
        raise ValueError(msg)
    ours_median, reference_median = statistics.median(ours), statistics.median(reference)
    return {
        "bench": bench,
        "ours": round(ours_median, 3),
        "reference": round(reference_median, 3),
        "unit": unit,
        "ratio": round(ours_median / reference_median, 3),
        "n": len(ours),
    }
