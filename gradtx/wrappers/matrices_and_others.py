"""One transformation for the matrices of a model, another for the rest."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.build import initialize, run
from gradtx.core.roles import Inner
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import is_none

__all__ = ["matrices_and_others"]

Tree = Any


class MatricesAndOthersState(NamedTuple):
    """The states of both."""

    matrices: Inner
    others: Inner


@transformation
def matrices_and_others(matrices: Transformation, others: Transformation) -> Any:
    """One transformation for the leaves with two axes, another for the rest; either group may be empty.

    Args:
      matrices: for the leaves with two axes.
      others: for all others.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"kernel": jnp.ones((1, 2)), "bias": jnp.ones(2)}
    >>> tx = gradtx.matrices_and_others(gradtx.scale(2.0), gradtx.scale(3.0))
    >>> tx.update(params, tx.init(params))[0]
    {'bias': Array([3., 3.], dtype=float32), 'kernel': Array([[2., 2.]], dtype=float32)}
    """

    def only(tree: Tree, two_axes: bool) -> Tree:
        def keep(x: Any) -> Any:
            return x if x is not None and (jnp.ndim(x) == 2) == two_axes else None

        return jax.tree.map(keep, tree, is_leaf=is_none)

    def init(params: Tree) -> MatricesAndOthersState:
        return MatricesAndOthersState(initialize(matrices, only(params, True)), initialize(others, only(params, False)))

    def update(
        updates: Tree, state: MatricesAndOthersState, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, MatricesAndOthersState]:
        def part(tx: Any, two_axes: bool, state: Tree) -> tuple[Tree, Tree]:
            mine = only(updates, two_axes)
            if mine is None:  # the only leaf belongs to the other
                return mine, state
            return run(tx, mine, state, only(params, two_axes), extra_args)

        of_matrices, matrices_state = part(matrices, True, state.matrices)
        of_others, others_state = part(others, False, state.others)
        merged = jax.tree.map(lambda a, b: b if a is None else a, of_matrices, of_others, is_leaf=is_none)
        return merged, MatricesAndOthersState(matrices_state, others_state)

    return init, update
