"""Orthogonalisation: set all singular values of a matrix to about one, without computing an SVD."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.arguments import NonNegative, Steps
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import least, norm
from gradtx.core.transformation import transformation
from gradtx.core.tree import map_leaves

__all__ = ["orthogonalize", "scale_by_shape"]

# Coefficients (a, b, c) of the polynomial a·x + b·x³ + c·x⁵ that drives singular values to about 1: one triple for all
# steps (Jordan 2024), or one per step (Ahn et al. 2025).
STANDARD = (3.4445, -4.7750, 2.0315)


PRESETS: dict[str, Any] = {
    "standard": STANDARD,
    "dion": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}


def _transposed(x: jax.Array) -> jax.Array:
    return jnp.conj(x.T)


def _unit(x: jax.Array) -> jax.Array:
    """x / ‖x‖, so that later squares neither overflow nor underflow."""
    return x / (norm(x) + least(x.dtype))


def _by_rows(x: jax.Array, eps: Any) -> jax.Array:
    x = _unit(x)
    return x * jax.lax.rsqrt(jnp.sum(jnp.abs(x @ _transposed(x)), -1, keepdims=True) + least(x.dtype))


def _by_schatten(x: jax.Array, eps: Any) -> jax.Array:
    x = _unit(x)
    return x * jax.lax.rsqrt(norm(x @ _transposed(x)) + least(x.dtype))


# Each scales a matrix so that its singular values are at most about 1.
_PRECONDITIONINGS = {
    "frobenius": lambda x, eps: x / (norm(x) + eps + least(x.dtype)),
    "spectral": lambda x, eps: x / (jnp.linalg.norm(x, ord=2) + eps + least(x.dtype)),
    "aol": _by_rows,
    "schatten": _by_schatten,
}


@transformation
def orthogonalize(
    ns_coeffs: Any = STANDARD,
    ns_steps: Steps = 5,
    eps: NonNegative = 1e-8,
    *,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
) -> Any:
    """Orthogonalise each matrix, UΣVᵀ to about UVᵀ, by Newton–Schulz steps: A = X·Xᵀ, X ← a·X + (b·A + c·A²)·X.

    The default coefficients trade accuracy for speed: singular values end up between about 0.7 and 1.2.

    Args:
      ns_coeffs: (a, b, c); or one triple per step; or a preset, "standard" or "dion".
      ns_steps: the number of steps if there is only one triple.
      eps: added to the norm that X is first divided by.
      adaptive: multiply by the dual norm ⟨X, UVᵀ⟩ (Bernstein & Newhouse 2024, https://arxiv.org/abs/2409.20325).
      preconditioning: how X is first scaled to singular values of at most 1: by its norm, "frobenius", "spectral"
        (tight but expensive) or "schatten" (of order 4); or row by row, "aol".

    Raises:
      ValueError: an unknown preset or preconditioning; coefficients that are not triples; a leaf that is not a matrix.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.orthogonalize(ns_steps=20, ns_coeffs=(1.5, -0.5, 0.0))  # Newton's own, exact in the limit
    >>> tx.update(jnp.array([[0.0, 2.0], [3.0, 0.0]]), tx.init(jnp.zeros((2, 2))))[0].round(3).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if isinstance(ns_coeffs, str) and ns_coeffs not in PRESETS:
        raise ValueError(f"orthogonalize: ns_coeffs is one of {', '.join(PRESETS)}, or numbers, got {ns_coeffs!r}")
    if preconditioning not in _PRECONDITIONINGS:
        known = ", ".join(_PRECONDITIONINGS)
        raise ValueError(f"orthogonalize: preconditioning is one of {known}, got {preconditioning!r}")
    triples: Any = PRESETS[ns_coeffs] if isinstance(ns_coeffs, str) else ns_coeffs
    shape = jnp.shape(jnp.asarray(triples, float))
    if shape[-1:] != (3,) or len(shape) > 2:
        raise ValueError(f"orthogonalize: ns_coeffs are triples, of shape (3,) or (steps, 3), got {shape}")
    triples = triples if len(shape) == 2 else (triples,) * ns_steps

    def newton_schulz(x: jax.Array) -> jax.Array:
        if x.ndim != 2:
            raise ValueError(f"orthogonalize takes matrices, got a leaf of shape {x.shape}")
        if not x.size:
            return x
        if x.shape[0] > x.shape[1]:
            return newton_schulz(x.T).T
        x = _PRECONDITIONINGS[preconditioning](x, eps)
        for a, b, c in triples:
            square = x @ _transposed(x)
            x = a * x + (b * square + c * (square @ square)) @ x
        return x

    def orthogonal(x: jax.Array) -> jax.Array:
        y = newton_schulz(x)
        return jnp.sum(jnp.real(jnp.conj(x) * y)) * y if adaptive else y

    return None, lambda updates, state, params=None: (map_leaves(orthogonal, updates), state)


@transformation
def scale_by_shape(consistent_rms: NonNegative | None = None) -> Any:
    """Scale each matrix according to its shape, so that one learning rate suits all shapes: √max(1, columns/rows).

    Args:
      consistent_rms: c, to scale by √max(rows, columns)·c instead: an orthogonal matrix then has a root mean square of
        c, whatever its shape (0.2 matches Adam; Liu et al. 2025, https://arxiv.org/abs/2502.16982).

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/
    """

    def scaled(u: jax.Array) -> jax.Array:
        rows, columns = u.shape
        if consistent_rms is None:
            return max(1, columns / max(rows, 1)) ** 0.5 * u
        return (max(rows, columns) ** 0.5 * consistent_rms) * u

    return leafwise(emit=scaled)
