"""Choosing what to copy: from the picked token to a span of a passage (NEST paper: dynamic span selection)."""

from __future__ import annotations

from nest_engine.mixture import costs
from nest_engine.types import Neighbors


def nearest_entry(neighbors: Neighbors | None, query: int, token: int, scale: float) -> int | None:
    """Return the neighbour of largest kNN weight among those whose value is ``token``.

    The weight falls with the distance, so that is the nearest one where all passages are equally relevant; equal
    weights (the same sentence in two passages) are settled by the order of the index, the first-stage ranking.

    Args:
        neighbors: nearest entries of each query.
        query: which query.
        token: the token that was picked.
        scale: what distances are divided by (``mixture.distance_scale``).

    Returns:
        an index entry, or None when no neighbour agrees with the pick.
    """
    if neighbors is None:
        return None
    agrees_K = neighbors.values_QK[query] == token
    entries_K = neighbors.entries_QK[query][agrees_K]
    if entries_K.numel() == 0:
        return None
    costs_K = costs(neighbors, scale)[query][agrees_K]
    return int(entries_K[costs_K == costs_K.min()].min())
