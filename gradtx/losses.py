"""Common training losses, under Optax's names; per example, so that the caller takes the mean.

Computed in float32 or wider, whatever the input dtype: the logarithm of a sum of bfloat16 exponentials has only two
digits. A class of zero weight costs nothing, even if its logit is −∞ (a masked class), and its derivative there is 0,
not NaN.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp, xlogy

from gradtx.core.tree import as_float32

__all__ = [
    "cosine_distance",
    "cosine_similarity",
    "hinge_loss",
    "huber_loss",
    "kl_divergence",
    "l2_loss",
    "log_cosh",
    "safe_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "squared_error",
]

Axis = int | tuple[int, ...] | None


# ---------------------------------------------------------------------------------------------------------- regression


def squared_error(predictions: Any, targets: Any = None) -> jax.Array:
    """(x − y)² of every element.

    Args:
      predictions: x, any shape.
      targets: y, of a shape that broadcasts to it; None stands for zeros, so that errors can be passed directly.

    >>> squared_error(jnp.array([1.0, 3.0]), 1.0).tolist()
    [0.0, 4.0]
    """
    return jnp.square(_errors(predictions, targets))


def l2_loss(predictions: Any, targets: Any = None) -> jax.Array:
    """½(x − y)² of every element: its derivative is the error. Arguments as in `squared_error`.

    >>> l2_loss(jnp.array([1.0, 3.0]), 1.0).tolist()
    [0.0, 2.0]
    """
    return 0.5 * squared_error(predictions, targets)


def huber_loss(predictions: Any, targets: Any = None, *, delta: Any = 1.0) -> jax.Array:
    """½e² for |e| ≤ δ, δ(|e| − ½δ) beyond: the derivative is the error, clipped to ±δ.

    Args:
      predictions: any shape.
      targets: of a shape that broadcasts to it; None stands for zeros.
      delta: δ > 0, in the units of the error.

    Source: Huber 1964, https://doi.org/10.1214/aoms/1177703732

    >>> huber_loss(jnp.array([0.5, -3.0])).tolist()
    [0.125, 2.5]
    """
    e = jnp.abs(_errors(predictions, targets))
    near = jnp.minimum(e, delta)
    return 0.5 * near**2 + delta * (e - near)


def log_cosh(predictions: Any, targets: Any = None) -> jax.Array:
    """log(cosh(x − y)): ½e² near 0, |e| − log 2 far from it, smooth between. Arguments as in `squared_error`.

    >>> log_cosh(jnp.array([0.0, 1000.0])).tolist()
    [0.0, 999.306...]
    """
    e = _errors(predictions, targets)
    return jnp.logaddexp(e, -e) - math.log(2.0)


def cosine_similarity(
    predictions: Any, targets: Any, *, epsilon: Any = 0.0, axis: Axis = -1, where: Any = None
) -> jax.Array:
    """The cosine of the angle between two vectors: x·y / (|x||y|), in [−1, 1].

    Args:
      predictions: vectors, [..., n].
      targets: vectors of the same shape.
      epsilon: a lower bound for |x|² and |y|² in the denominator; with 0, a zero vector gives NaN.
      axis: the axis or axes of the vectors; the result lacks them.
      where: the elements to include, booleans of a shape that broadcasts.

    >>> cosine_similarity(jnp.array([[1.0, 0.0], [3.0, 3.0]]), jnp.array([[0.0, 2.0], [1.0, 1.0]])).round(4).tolist()
    [0.0, 1.0]
    """
    x, y = as_float32(predictions), as_float32(targets)

    def dot(a: Any, b: Any) -> jax.Array:
        return jnp.sum(a * b, axis=axis, where=where)

    length_x, length_y = (jnp.sqrt(jnp.maximum(dot(v, v), epsilon)) for v in (x, y))
    return dot(x, y) / length_x / length_y


def cosine_distance(
    predictions: Any, targets: Any, *, epsilon: Any = 0.0, axis: Axis = -1, where: Any = None
) -> jax.Array:
    """1 − `cosine_similarity`, with its arguments: 0 for vectors of the same direction, 2 for opposite ones.

    >>> cosine_distance(jnp.array([1.0, 0.0]), jnp.array([-2.0, 0.0])).item()
    2.0
    """
    return 1.0 - cosine_similarity(predictions, targets, epsilon=epsilon, axis=axis, where=where)


# ------------------------------------------------------------------------------------------------------ classification


def softmax_cross_entropy(logits: Any, labels: Any, axis: Axis = -1, where: Any = None) -> jax.Array:
    """−Σ pᵢ log softmax(z)ᵢ: the cross entropy between a distribution p and the softmax of logits z.

    Args:
      logits: z, unnormalised log-probabilities, [..., classes].
      labels: p, one-hot or soft, of a shape that broadcasts to it.
      axis: the axis or axes of the classes; the result lacks them.
      where: the classes to include, booleans of a shape that broadcasts.

    A class of weight 0 costs 0, even if its logit is −∞. Optax's function of this name gives NaN there, and its
    `safe_softmax_cross_entropy` does not; here the two are the same.

    >>> softmax_cross_entropy(jnp.array([2.0, 1.0, -jnp.inf]), jnp.array([1.0, 0.0, 0.0])).item()
    0.3132...
    """
    logits = _float("logits", logits)
    labels = _fitting("labels", labels, logits)
    log_p = logits - logsumexp(logits, axis=axis, where=where, keepdims=True)
    return jnp.sum(_weighted(labels, -log_p), axis=axis, where=where)


def safe_softmax_cross_entropy(logits: Any, labels: Any) -> jax.Array:
    """`softmax_cross_entropy` over the last axis, which is already safe here.

    >>> safe_softmax_cross_entropy(jnp.array([0.0, -jnp.inf]), jnp.array([1.0, 0.0])).item()
    0.0
    """
    return softmax_cross_entropy(logits, labels)


def softmax_cross_entropy_with_integer_labels(
    logits: Any, labels: Any, axis: int | tuple[int, ...] = -1, where: Any = None
) -> jax.Array:
    """log Σ exp(z) − z[k]: the cross entropy for class k, without a one-hot array.

    Args:
      logits: z, unnormalised log-probabilities, [..., classes].
      labels: k, integers from 0 to classes − 1, [...]; one out of range gives NaN.
      axis: the axis of the classes; several axes are flattened into one, in their order.
      where: the classes to include, with the shape of the logits, or the examples to include, with the shape of the
        labels. An example without any costs 0.

    Raises:
      TypeError: the logits are not floats, or the labels not integers.

    >>> softmax_cross_entropy_with_integer_labels(jnp.array([[2.0, 1.0], [2.0, 1.0]]), jnp.array([0, 1])).tolist()
    [0.3132..., 1.3132...]
    """
    logits, labels = _float("logits", logits), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: integers are needed, not {labels.dtype}; softmax_cross_entropy takes distributions")
    axes = tuple(a % logits.ndim for a in ((axis,) if isinstance(axis, int) else axis))

    def classes_last(x: jax.Array) -> jax.Array:
        moved = jnp.moveaxis(x, axes, range(-len(axes), 0))
        return moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)

    if where is not None:
        where = jnp.asarray(where)
        where = jnp.expand_dims(where, axes) if where.ndim < logits.ndim else where
        where = classes_last(jnp.broadcast_to(where, logits.shape))
    z = classes_last(logits)
    cost = logsumexp(z, axis=-1, where=where) - jnp.take_along_axis(z, labels[..., None], -1, mode="fill")[..., 0]
    return cost if where is None else jnp.where(where.any(-1), cost, 0.0)


def sigmoid_binary_cross_entropy(logits: Any, labels: Any) -> jax.Array:
    """−y log σ(z) − (1 − y) log σ(−z) of every element: independent yes-or-no questions.

    Args:
      logits: z, unnormalised log-odds, any shape.
      labels: y in [0, 1], of a shape that broadcasts to it.

    >>> sigmoid_binary_cross_entropy(jnp.array([0.0, 100.0]), jnp.array([1, 0])).tolist()
    [0.693..., 100.0]
    """
    logits = _float("logits", logits)
    labels = _fitting("labels", labels, logits)
    return jax.nn.softplus(logits) - labels * logits


def sigmoid_focal_loss(logits: Any, labels: Any, *, alpha: Any = None, gamma: Any = 2.0) -> jax.Array:
    """(1 − p)^γ times the binary cross entropy, with p the probability of the true class: easy examples hardly count.

    Args:
      logits: z, unnormalised log-odds, any shape.
      labels: y in [0, 1], of a shape that broadcasts to it.
      alpha: weighs y = 1 by α and y = 0 by 1 − α; None weighs both by 1.
      gamma: γ ≥ 0; 0 gives the cross entropy.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002

    >>> sigmoid_focal_loss(jnp.array([0.0, 4.0]), 1).tolist()
    [0.173..., 5.87...e-06]
    """
    logits = _float("logits", logits)
    labels = _fitting("labels", labels, logits)
    wrong = jnp.logaddexp(  # log(1 − p), p = y σ(z) + (1 − y) σ(−z), without the subtraction
        jnp.where(labels > 0, jnp.log(labels), -jnp.inf) + jax.nn.log_sigmoid(-logits),
        jnp.where(labels < 1, jnp.log1p(-labels), -jnp.inf) + jax.nn.log_sigmoid(logits),
    )
    cost = jnp.exp(gamma * wrong) * sigmoid_binary_cross_entropy(logits, labels)
    return cost if alpha is None else cost * (alpha * labels + (1 - alpha) * (1 - labels))


def smooth_labels(labels: Any, alpha: Any, *, axis: Axis = -1, where: Any = None) -> jax.Array:
    """(1 − α)·p + α/n: a distribution over n classes mixed with the uniform one.

    Args:
      labels: p, [..., n], floats.
      alpha: α in [0, 1].
      axis: the axis or axes of the classes.
      where: the classes to count in n, booleans of the labels' shape.

    Source: Müller, Kornblith & Hinton 2019, https://arxiv.org/abs/1906.02629

    >>> smooth_labels(jnp.array([1.0, 0.0]), 0.1).tolist()
    [0.9499..., 0.05...]
    """
    labels = _float("labels", labels)
    n = jnp.sum(jnp.ones_like(labels), axis=axis, where=where, keepdims=True)
    return (1 - alpha) * labels + alpha / n


def hinge_loss(predictor_outputs: Any, targets: Any) -> jax.Array:
    """max(0, 1 − y·x) of every element: 0 once the sign is right with a margin of 1.

    Args:
      predictor_outputs: x, any shape.
      targets: y, −1 or 1, of a shape that broadcasts to it.

    Source: Cortes & Vapnik 1995, https://doi.org/10.1007/BF00994018

    >>> hinge_loss(jnp.array([2.0, 0.5, -1.0]), 1).tolist()
    [0.0, 0.5, 2.0]
    """
    x = _float("predictor_outputs", predictor_outputs)
    return jnp.maximum(0.0, 1.0 - x * _fitting("targets", targets, x))


def kl_divergence(log_predictions: Any, targets: Any, axis: Axis = -1, where: Any = None) -> jax.Array:
    """Σ pᵢ (log pᵢ − log qᵢ): the cost of using q in place of p; 0 only if they are equal.

    Args:
      log_predictions: log q, [..., n].
      targets: p ≥ 0 (not its logarithm), of the same shape; 0 costs 0.
      axis: the axis or axes of the classes; the result lacks them.
      where: the classes to include, booleans of a shape that broadcasts.

    Source: Kullback & Leibler 1951, https://doi.org/10.1214/aoms/1177729694

    >>> kl_divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 0.0])).item()
    0.693...
    """
    log_q, p = _float("log_predictions", log_predictions), as_float32(targets)
    return jnp.sum(xlogy(p, p) + _weighted(p, -log_q), axis=axis, where=where)


# -------------------------------------------------------------------------------------------------------------- helpers


def _float(name: str, x: Any) -> jax.Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: floats are needed, not {x.dtype}")
    return as_float32(x)


def _weighted(weights: jax.Array, costs: jax.Array) -> jax.Array:
    """The product, with 0·∞ = 0."""
    # Selected before the product, so that the derivative of a cost of weight 0 is 0, not 0·∞.
    return weights * jnp.where(weights == 0, 0.0, costs)


def _errors(predictions: Any, targets: Any) -> jax.Array:
    predictions = _float("predictions", predictions)
    return predictions if targets is None else predictions - _fitting("targets", targets, predictions)


def _fitting(name: str, x: Any, like: jax.Array) -> jax.Array:
    """An array that broadcasts to the shape of the predictions, no further: (n,) with (n, 1) would give n² losses."""
    x = jnp.asarray(x, jnp.promote_types(like.dtype, jnp.result_type(x)))
    try:
        fits = jnp.broadcast_shapes(x.shape, like.shape) == like.shape
    except ValueError:
        fits = False
    if not fits:
        hint = "; for classes see softmax_cross_entropy_with_integer_labels" if x.shape == like.shape[:-1] else ""
        raise ValueError(f"{name} of shape {x.shape} do not fit predictions of shape {like.shape}{hint}")
    return x
