"""An estimate of the diagonal of the Hessian, as a transformation that outputs it in place of the updates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.roles import RandomKey
from gradtx.core.transformation import transformation
from gradtx.core.tree import map_leaves

__all__ = ["hutchinson_estimator_diag_hessian"]

Tree = Any


class HutchinsonState(NamedTuple):
    """The key for the random signs."""

    key: RandomKey


@transformation
def hutchinson_estimator_diag_hessian(random_seed: Any = None) -> Any:
    """Replace the updates by an unbiased estimate of the Hessian's diagonal: z ⊙ ∇²f(θ)·z, with random signs z.

    Args:
      random_seed: an int, or a key array; 0 by default.

    Takes the extra argument `obj_fn(params)`, the loss of this batch, or else `value_fn`, as `make_step` passes it.
    Needs the parameters, which must be floats.

    Raises:
      TypeError: neither is passed.

    Source: Hutchinson 1990, https://doi.org/10.1080/03610919008812866; as in Liu et al. 2023,
    https://arxiv.org/abs/2305.14342

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.hutchinson_estimator_diag_hessian()
    >>> x = jnp.array([1.0, 2.0])
    >>> tx.update(x, tx.init(x), x, obj_fn=lambda x: jnp.sum(x**3))[0].tolist()  # exact for a diagonal Hessian
    [6.0, 12.0]
    """

    def init(params: Tree) -> HutchinsonState:
        seed = 0 if random_seed is None else random_seed
        return HutchinsonState(jax.random.PRNGKey(seed) if isinstance(seed, int) else jnp.asarray(seed))

    def update(
        updates: Tree, state: HutchinsonState, params: Tree, *, obj_fn: Any = None, value_fn: Any = None
    ) -> tuple[Tree, HutchinsonState]:
        loss: Callable[[Tree], Any] | None = obj_fn or value_fn
        if loss is None:
            raise TypeError(
                "hutchinson_estimator_diag_hessian needs the loss of the parameters: "
                "update(updates, state, params, obj_fn=…)"
            )
        key, subkey = jax.random.split(state.key)
        structure: Any
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(subkey, max(len(leaves), 1))
        signs = [
            jax.random.rademacher(k, jnp.shape(p), jnp.float32).astype(jnp.result_type(p))
            for k, p in zip(keys, leaves, strict=False)
        ]
        z = structure.unflatten(signs)
        curved = jax.jvp(jax.grad(loss), (params,), (z,))[1]
        return map_leaves(lambda h, z: h * z, curved, z), HutchinsonState(key)

    return init, update
