"""Transformations without state: your own functions, and updates set to zero."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from gradtx.core.leafwise import leafwise
from gradtx.core.roles import EmptyState
from gradtx.core.select import masked
from gradtx.core.transformation import transformation
from gradtx.core.tree import map_leaves

__all__ = ["freeze", "set_to_zero", "stateless", "stateless_with_tree_map"]

Tree = Any


@transformation
def set_to_zero() -> Any:
    """Set every update to exactly zero, even if it is infinite or NaN."""
    return leafwise(emit=lambda u: jnp.zeros_like(u))


@transformation
def freeze(mask: Any) -> Any:
    """Freeze the chosen leaves: their updates become exactly zero. The others pass through.

    Goes last in a chain. To save the optimizer state of the frozen leaves as well, use
    `partition({"head*": adam(1e-3), "*": set_to_zero()})`.

    Args:
      mask: which leaves to freeze; see `masked`.
    """
    return masked(set_to_zero(), mask)


@transformation
def stateless(f: Callable[[Tree, Tree], Tree]) -> Any:
    """A transformation without state from a function `f(updates, params) -> updates` of whole trees."""
    return None, lambda updates, state, params=None: (f(updates, params), state)


@transformation
def stateless_with_tree_map(f: Callable[[Any, Any], Any]) -> Any:
    """A transformation without state from a function `f(update, param) -> update` of leaves.

    `param` is None when `update` is called without parameters. Leaves arrive in float32 or wider.
    """

    def update(updates: Tree, state: EmptyState, params: Tree = None) -> tuple[Tree, EmptyState]:
        rest = () if params is None else (params,)
        return map_leaves(lambda u, p=None: f(u, p), updates, *rest), state

    return None, update
