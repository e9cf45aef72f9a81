"""Scale the updates in proportion to the norms of the parameters, leaf by leaf."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.arguments import NonNegative
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import norm, norms, rms
from gradtx.core.transformation import transformation

__all__ = ["scale_by_param_block_norm", "scale_by_param_block_rms", "scale_by_trust_ratio"]


@transformation
def scale_by_trust_ratio(
    min_norm: NonNegative = 0.0, trust_coefficient: NonNegative = 1.0, eps: NonNegative = 0.0
) -> Any:
    """Scale each leaf by the trust ratio c·‖θ‖ / (‖u‖ + ε), or by 1 where either norm is 0.

    Args:
      min_norm: a lower bound on both norms.
      trust_coefficient: c.
      eps: ε.

    Needs the parameters.

    Source: You et al. 2017, https://arxiv.org/abs/1708.03888
    """

    def trust(u: jax.Array, p: jax.Array) -> jax.Array:
        ours, theirs = (jnp.maximum(size, min_norm) for size in norms(u, p))
        usable = (ours > 0) & (theirs > 0)
        return jnp.where(usable, trust_coefficient * theirs / (jnp.where(usable, ours, 1) + eps), 1)

    return leafwise(before=trust, emit=lambda u, x: x * u)


@transformation
def scale_by_param_block_norm(min_scale: NonNegative = 1e-3) -> Any:
    """Scale each leaf by the norm of its parameter, at least `min_scale`.

    Args:
      min_scale: lets parameters that are all zero move.

    Needs the parameters.

    Source: You et al. 2017, https://arxiv.org/abs/1708.03888
    """

    return leafwise(before=lambda p: jnp.maximum(norm(p), min_scale), emit=lambda u, x: x * u)


@transformation
def scale_by_param_block_rms(min_scale: NonNegative = 1e-3) -> Any:
    """Scale each leaf by the root mean square of its parameter, at least `min_scale`.

    Args:
      min_scale: lets parameters that are all zero move.

    Needs the parameters.

    Source: Shazeer & Stern 2018, section 8, https://arxiv.org/abs/1804.04235
    """

    return leafwise(before=lambda p: jnp.maximum(rms(p), min_scale), emit=lambda u, x: x * u)
