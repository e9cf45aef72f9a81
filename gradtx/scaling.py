"""Transformations that set how far to go: learning rates, signs, weights, and norms of the parameters.

The ways to let weights decay, with the rate η, the decay λ and the step u of the optimizer:

    add_l2_regularization, add_decayed_weights first    as a gradient, g + λ·θ
    add_decayed_weights before the learning rate        decoupled, θ − η·(u + λ·θ)
    add_cautious_weight_decay before the learning rate  the same, but never against u
    proximal_weight_decay last                          an implicit step, (θ − η·u)/(1 + η·λ)
    decay_weights last                                  whatever the rate, θ − η·u − λ·θ
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, NonNegative, Period, Real, Steps
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import norm, norms, rms
from gradtx.core.roles import Number
from gradtx.core.select import masked
from gradtx.core.transformation import transformation

__all__ = [
    "add_cautious_weight_decay",
    "add_decayed_weights",
    "add_l1_regularization",
    "add_l2_regularization",
    "decay_weights",
    "proximal_weight_decay",
    "reduce_on_plateau",
    "scale",
    "scale_by_learning_rate",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
    "scale_by_schedule",
    "scale_by_sign",
    "scale_by_smooth_sign",
    "scale_by_trust_ratio",
]


@transformation
def scale(step_size: Real) -> Any:
    """Multiply the updates by a number: s·u.

    Args:
      step_size: the factor s, of any sign; a float, an array or a schedule.
    """
    return leafwise(emit=lambda u: step_size * u)


@transformation(record=("learning_rate",))
def scale_by_learning_rate(learning_rate: NonNegative, *, flip_sign: bool = True) -> Any:
    """The step down the gradient: −η·u. Its state records η, constant or scheduled, and counts the steps.

    Args:
      learning_rate: η; a float, an array or a schedule.
      flip_sign: False for +η·u.

    State: a count and the rate in use; see `hyperparams`.
    """
    return leafwise(emit=lambda u: -(learning_rate * u) if flip_sign else learning_rate * u)


@transformation
def scale_by_schedule(step_size_fn: Real) -> Any:
    """Multiply the updates by a schedule: s(t)·u. Any function of the step count will do.

    Args:
      step_size_fn: s, called with the number of earlier steps.
    """
    return scale(step_size_fn)


@transformation
def scale_by_sign() -> Any:
    """The sign of each element: −1, 0 or 1 (for complex updates u/|u|).

    Source: Bernstein et al. 2018, https://arxiv.org/abs/1802.04434
    """
    return leafwise(emit=lambda u: jnp.sign(u))


@transformation
def scale_by_smooth_sign(sharpness: NonNegative = 1.0) -> Any:
    """A sign that is soft around 0: tanh(β·u) (for complex updates tanh(β·|u|)·u/|u|).

    Args:
      sharpness: β; towards infinity it is `scale_by_sign`.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_smooth_sign(2.0)
    >>> tx.update(jnp.array([-9.0, 0.25]), tx.init(jnp.zeros(2)))[0].round(3).tolist()
    [-1.0, 0.46...]
    """

    def squash(u: jax.Array) -> jax.Array:
        return jnp.sign(u) * jnp.tanh(sharpness * jnp.abs(u)) if jnp.iscomplexobj(u) else jnp.tanh(sharpness * u)

    return leafwise(emit=squash)


# Weights


@transformation
def add_decayed_weights(weight_decay: NonNegative = 0.0, mask: Any = None) -> Any:
    """Add λ·θ to the updates.

    Put after the moments and before the learning rate it is AdamW's decoupled decay (times η); put before the moments
    it is L2 regularisation.

    Args:
      weight_decay: λ; a float, an array or a schedule.
      mask: which leaves; see `masked`. By default all.

    Needs the parameters.

    Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101
    """
    if mask is not None:
        return masked(add_decayed_weights(weight_decay), mask)
    return leafwise(emit=lambda u, p: u + weight_decay * p)


@transformation
def add_cautious_weight_decay(weight_decay: NonNegative, mask: Any = None) -> Any:
    """Add λ·θ to the updates where it does not work against them: u + λ·[u·θ ≥ 0]·θ. Goes before the learning rate.

    Args:
      weight_decay: λ.
      mask: which leaves; see `masked`. By default all.

    Needs the parameters.

    Source: Chen et al. 2025, https://arxiv.org/abs/2510.12402

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.add_cautious_weight_decay(0.1)
    >>> tx.update(jnp.array([1.0, -1.0]), tx.init(jnp.ones(2)), jnp.ones(2))[0].round(3).tolist()
    [1.1..., -1.0]
    """
    if mask is not None:
        return masked(add_cautious_weight_decay(weight_decay), mask)

    def decayed(u: jax.Array, p: jax.Array) -> jax.Array:
        agrees = (jnp.sign(u) * jnp.conj(jnp.sign(p))).real >= 0
        return u + (weight_decay * agrees) * p

    return leafwise(emit=decayed)


@transformation
def decay_weights(weight_decay: NonNegative, mask: Any = None) -> Any:
    """Subtract λ·θ from the steps: u − λ·θ. Last in a chain it is a decay that does not follow the learning rate.

    Args:
      weight_decay: λ; a schedule of its own, if it is to have one.
      mask: which leaves; see `masked`. By default all.

    Needs the parameters.

    Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101

    >>> import gradtx
    >>> gradtx.chain(gradtx.adam(gradtx.cosine_decay_schedule(1e-3, 100)), gradtx.decay_weights(1e-5))
    chain(
        adam(learning_rate=cosine_decay_schedule(init_value=0.001, decay_steps=100)),
        decay_weights(weight_decay=1e-05),
    )
    """
    return chain(scale(-1.0), add_decayed_weights(weight_decay, mask), scale(-1.0))


@transformation
def proximal_weight_decay(weight_decay: NonNegative, mask: Any = None) -> Any:
    """Divide the parameters after the step: (θ + u) / (1 + λ), which for no λ goes past 0. Last in a chain.

    It is the proximal step of the penalty λ/2·‖θ‖²: the decay is that of the parameters to come.

    Args:
      weight_decay: λ; for a decay that follows the rate give η·λ.
      mask: which leaves; see `masked`. By default all.

    Needs the parameters.

    Source: Zhuang et al. 2022, https://arxiv.org/abs/2202.00089

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.proximal_weight_decay(3.0))
    >>> x = jnp.array(10.0)
    >>> gradtx.apply_updates(x, tx.update(jnp.array(2.0), tx.init(x), x)[0]).item()
    2.0
    """
    if mask is not None:
        return masked(proximal_weight_decay(weight_decay), mask)

    return leafwise(emit=lambda u, p: (u - weight_decay * p) / (1 + weight_decay))


@transformation
def add_l2_regularization(strength: NonNegative, mask: Any = None) -> Any:
    """The gradient of the penalty λ/2·‖θ‖²: g + λ·θ. Goes before the moments.

    Args:
      strength: λ.
      mask: which leaves; see `masked`. By default all.

    Source: Hoerl & Kennard 1970, https://doi.org/10.1080/00401706.1970.10488634
    """
    return add_decayed_weights(strength, mask)


@transformation
def add_l1_regularization(strength: NonNegative, mask: Any = None) -> Any:
    """The subgradient of the penalty λ·‖θ‖₁: g + λ·sign(θ). Goes before the moments.

    Args:
      strength: λ.
      mask: which leaves; see `masked`. By default all.

    Source: Tibshirani 1996, https://doi.org/10.1111/j.2517-6161.1996.tb02080.x
    """
    if mask is not None:
        return masked(add_l1_regularization(strength), mask)
    return leafwise(emit=lambda u, p: u + strength * jnp.sign(p))


# Norms of leaves


@transformation
def scale_by_trust_ratio(
    min_norm: NonNegative = 0.0, trust_coefficient: NonNegative = 1.0, eps: NonNegative = 0.0
) -> Any:
    """Scale each leaf by the trust ratio c·‖θ‖ / (‖u‖ + ε), or by 1 where either norm is 0.

    Args:
      min_norm: norms below this count as this.
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
      min_scale: lets parameters that are zero move.

    Needs the parameters.

    Source: You et al. 2017, https://arxiv.org/abs/1708.03888
    """

    return leafwise(before=lambda p: jnp.maximum(norm(p), min_scale), emit=lambda u, x: x * u)


@transformation
def scale_by_param_block_rms(min_scale: NonNegative = 1e-3) -> Any:
    """Scale each leaf by the root mean square of its parameter, at least `min_scale`.

    Args:
      min_scale: lets parameters that are zero move.

    Needs the parameters.

    Source: Shazeer & Stern 2018, section 8, https://arxiv.org/abs/1804.04235
    """

    return leafwise(before=lambda p: jnp.maximum(rms(p), min_scale), emit=lambda u, x: x * u)


# On the loss


class ReduceOnPlateauState(NamedTuple):
    """The factor in use, and what it is judged by."""

    scale: Number  # the factor in use
    best_value: Number
    plateau_count: Number  # int32, windows since the best value
    cooldown_count: Number  # int32, windows of cooldown left
    count: Number  # int32, values in the current window
    sum_value: Number  # of the values in the current window

    @property
    def metrics(self) -> dict[str, jax.Array]:
        """What `metrics` collects."""
        return {"plateau_scale": self.scale}


@transformation
def reduce_on_plateau(
    factor: Decay = 0.1,
    patience: Steps = 10,
    rtol: Decay = 1e-4,
    atol: NonNegative = 0.0,
    cooldown: Steps = 0,
    accumulation_size: Period = 1,
    min_scale: NonNegative = 0.0,
) -> Any:
    """Scale the updates down when the loss stops falling; put it last in a chain.

    Pass the loss: `tx.update(grads, state, params, value=loss)` (`make_step` does).

    Args:
      factor: what the scale is multiplied by on a plateau.
      patience: windows without improvement before that.
      rtol: relative improvement that counts.
      atol: absolute improvement that counts.
      cooldown: windows after a reduction in which none is counted.
      accumulation_size: steps per window; the mean loss of a window is judged.
      min_scale: the scale never falls below this.

    Raises:
      TypeError: `value` is not passed to `update`.

    The rule of Optax's `contrib.reduce_on_plateau`; for negative losses, too, an improvement is a fall by `rtol`.
    """

    def judged(s: ReduceOnPlateauState, *, value: jax.Array) -> ReduceOnPlateauState:
        count, total = s.count + 1, s.sum_value + value
        mean, full = total / count, count >= accumulation_size

        improved = mean < s.best_value * (1 - rtol * jnp.sign(s.best_value)) - atol
        cooling = s.cooldown_count > 0
        bad = jnp.where(improved | cooling, 0, s.plateau_count + 1)
        reduce = full & (bad >= patience) & ~improved & ~cooling
        cooldown_left = jnp.where(reduce, cooldown, jnp.maximum(s.cooldown_count - 1, 0))
        return ReduceOnPlateauState(
            scale=jnp.where(reduce, jnp.maximum(s.scale * factor, min_scale), s.scale),
            best_value=jnp.where(improved & full, mean, s.best_value),
            plateau_count=jnp.where(full, jnp.where(reduce, 0, bad), s.plateau_count),
            cooldown_count=jnp.where(full, cooldown_left, s.cooldown_count),
            count=jnp.where(full, 0, count),
            sum_value=jnp.where(full, 0.0, total),
        )

    return leafwise(
        init=lambda p: ReduceOnPlateauState(1.0, jnp.inf, 0, 0, 0, 0.0),
        count=judged,
        emit=lambda s, u: s.scale * u,
    )
