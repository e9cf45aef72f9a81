"""The parameters to evaluate, whichever state keeps them.

A state that keeps such parameters has a method that returns them: `state.eval_params(params)`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.tree import is_none, path_string
from gradtx.wrappers.lookahead import is_pair

__all__ = ["eval_params"]

Tree = Any


def eval_params(state: Tree, params: Tree) -> Tree:
    """The parameters to evaluate: averaged where the state keeps an average, the others as they are.

    Args:
      state: a state of any transformation, or any pytree that holds one (a flax TrainState, an nnx.Optimizer).
      params: the parameters as they are trained; for a `LookaheadParams`, its slow ones are returned.

    Returns:
      Parameters with the structure and the dtypes of `params`. Of nested states, the outermost decides.

    Raises:
      ValueError: two states side by side keep an average of the same leaf; the message names them.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.ema_params(0.5))
    >>> params, state = jnp.array(0.0), tx.init(jnp.array(0.0))
    >>> for _ in range(2):
    ...     updates, state = tx.update(jnp.array(-3.0), state, params)
    ...     params = gradtx.apply_updates(params, updates)
    >>> params.item(), gradtx.eval_params(state, params).item()
    (6.0, 5.0)
    """
    structure: Any = jax.tree.structure(params)
    bare = _bare(params)
    found = jax.tree_util.tree_flatten_with_path(_bare(state), is_leaf=_answers)[0]
    answers = [(path_string(path), node.eval_params(bare)) for path, node in found if _answers(node)]

    def choose(path: Any, param: Any, *averages: Any) -> Any:
        given = [(name, x) for (name, _), x in zip(answers, averages, strict=True) if x is not None]
        if len(given) > 1:
            names = " and ".join(f"'{name}'" for name, _ in given)
            raise ValueError(
                f"eval_params: leaf '{path_string(path)}' has averages in {names}; pass one of these states"
            )
        return given[0][1].astype(jnp.result_type(param)) if given and param is not None else param

    trees = [answer for _, answer in answers]
    chosen = jax.tree_util.tree_map_with_path(choose, bare, *trees, is_leaf=is_none)
    chosen = structure.unflatten(jax.tree.leaves(chosen))
    return jax.tree.map(lambda x: x.slow if is_pair(x) else x, chosen, is_leaf=is_pair)


def _bare(tree: Tree) -> Tree:
    """The tree without the variables that flax's nnx wraps arrays in: they differ between parameters and states."""

    def wrapped(x: Any) -> bool:
        return hasattr(x, "get_value")

    return jax.tree.map(lambda x: jax.tree.leaves(x)[0] if wrapped(x) else x, tree, is_leaf=wrapped)


def _answers(x: Any) -> bool:
    return isinstance(x, tuple) and callable(getattr(x, "eval_params", None))
