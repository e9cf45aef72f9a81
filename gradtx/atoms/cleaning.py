"""Cleaning the updates: zero NaNs, keep parameters non-negative, subtract means."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.leafwise import leafwise
from gradtx.core.roles import Factored
from gradtx.core.transformation import transformation

__all__ = ["centralize", "keep_params_nonnegative", "zero_nans"]


class ZeroNansState(NamedTuple):
    """Which leaves had a NaN."""

    found_nan: Factored  # a bool for each leaf, of the last step

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        zero = jnp.zeros((), jnp.int32)
        return {"leaves_with_nan": sum((x.astype(jnp.int32) for x in jax.tree.leaves(self.found_nan)), zero)}


@transformation
def zero_nans() -> Any:
    """Replace every NaN with 0.

    The state records which leaves had one; `metrics(state)["leaves_with_nan"]` counts them. To skip such a step
    altogether, see `apply_if_finite`.

    State: one bool for each leaf.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.zero_nans()
    >>> updates, state = tx.update({"a": jnp.array([jnp.nan, 2.0])}, tx.init({"a": jnp.zeros(2)}))
    >>> updates["a"].tolist(), state.found_nan["a"].item()
    ([0.0, 2.0], True)
    """

    return leafwise(
        init=lambda p: ZeroNansState(jnp.zeros((), bool)),
        before=lambda u: jnp.any(jnp.isnan(u)),
        advance=lambda x: ZeroNansState(x),
        emit=lambda u: jnp.where(jnp.isnan(u), 0, u),
    )


@transformation
def keep_params_nonnegative() -> Any:
    """Shorten steps that would make a parameter negative, so that it becomes 0: max(u, −θ). Goes last in a chain.

    Parameters that are already negative move to 0. Needs the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.keep_params_nonnegative())
    >>> x = jnp.array([1.0, 3.0])
    >>> gradtx.apply_updates(x, tx.update(jnp.array([2.0, 2.0]), tx.init(x), x)[0]).tolist()
    [0.0, 1.0]
    """
    return leafwise(emit=lambda u, p: jnp.maximum(u, -p))


@transformation
def centralize() -> Any:
    """Subtract from each leaf with two or more axes its mean over all axes but the first: u − mean(u).

    Source: Yong et al. 2020, https://arxiv.org/abs/2004.01461

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.centralize()
    >>> tx.update(jnp.array([[1.0, 3.0], [4.0, 8.0]]), tx.init(jnp.zeros((2, 2))))[0].tolist()
    [[-1.0, 1.0], [-2.0, 2.0]]
    """

    def mean(u: jax.Array) -> Any:
        return jnp.mean(u, tuple(range(1, u.ndim)), keepdims=True) if u.ndim > 1 and u.size else 0

    return leafwise(before=mean, emit=lambda u, x: u - x)
