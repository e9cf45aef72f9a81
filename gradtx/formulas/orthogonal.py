"""Muon: momentum whose singular values are all made one, for the matrices of a model; Adam for the rest."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx.core.arguments import Decay, Dtype, NonNegative, Steps
from gradtx.core.build import initialize, run
from gradtx.core.combine import chain
from gradtx.core.leafwise import leafwise
from gradtx.core.numerics import least, norm
from gradtx.core.roles import Inner
from gradtx.core.transformation import Transformation, transformation
from gradtx.core.tree import is_none, map_leaves
from gradtx.formulas.adam import adamw, direction
from gradtx.scaling import add_decayed_weights, scale_by_learning_rate

__all__ = ["matrices_and_others", "muon", "orthogonalize", "scale_by_muon", "scale_by_shape"]

Tree = Any

# Coefficients (a, b, c) of the polynomial a·x + b·x³ + c·x⁵ that drives singular values to about 1: one triple for all
# steps (Jordan 2024), or one for each (Ahn et al. 2025).
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


# Which leaves


class MatricesAndOthersState(NamedTuple):
    """The states of both."""

    matrices: Inner
    others: Inner


@transformation
def matrices_and_others(matrices: Transformation, others: Transformation) -> Any:
    """One transformation for the leaves with two axes, another for the rest; there may be none of either.

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
            if mine is None:  # the only leaf is the other's
                return mine, state
            return run(tx, mine, state, only(params, two_axes), extra_args)

        of_matrices, matrices_state = part(matrices, True, state.matrices)
        of_others, others_state = part(others, False, state.others)
        merged = jax.tree.map(lambda a, b: b if a is None else a, of_matrices, of_others, is_leaf=is_none)
        return merged, MatricesAndOthersState(matrices_state, others_state)

    return init, update


# Orthogonal updates


def _transposed(x: jax.Array) -> jax.Array:
    return jnp.conj(x.T)


def _unit(x: jax.Array) -> jax.Array:
    """x / ‖x‖, so that the squares of what follows neither overflow nor vanish."""
    return x / (norm(x) + least(x.dtype))


def _by_rows(x: jax.Array, eps: Any) -> jax.Array:
    x = _unit(x)
    return x * jax.lax.rsqrt(jnp.sum(jnp.abs(x @ _transposed(x)), -1, keepdims=True) + least(x.dtype))


def _by_schatten(x: jax.Array, eps: Any) -> jax.Array:
    x = _unit(x)
    return x * jax.lax.rsqrt(norm(x @ _transposed(x)) + least(x.dtype))


# Each makes the singular values at most 1, about.
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
    """Replace each matrix UΣVᵀ by about UVᵀ, by Newton–Schulz steps: A = X·Xᵀ, X ← a·X + (b·A + c·A²)·X.

    The default coefficients are fast rather than exact: singular values end between about 0.7 and 1.2.

    Args:
      ns_coeffs: (a, b, c); one triple for each step; or "standard" or "dion".
      ns_steps: how many steps, with one triple.
      eps: added to the norm that is divided by first.
      adaptive: multiply by the dual norm ⟨X, UVᵀ⟩ (Bernstein & Newhouse 2024, https://arxiv.org/abs/2409.20325).
      preconditioning: what makes the singular values at most 1 first: the norm "frobenius", "spectral" (dear and tight)
        or "schatten" (of order 4), or "aol", rescaled rows.

    Raises:
      ValueError: an unknown preset or preconditioning; coefficients that are not triples; a leaf that is no matrix.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.orthogonalize(ns_steps=20, ns_coeffs=(1.5, -0.5, 0.0))  # Newton's own, exact in the end
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
    """Scale each matrix by its shape, so that one learning rate suits all: √max(1, columns/rows).

    Args:
      consistent_rms: c, for √max(rows, columns)·c instead: an orthogonal matrix then has the root mean square c,
        whatever its shape (0.2 is Adam's; Liu et al. 2025, https://arxiv.org/abs/2502.16982).

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/
    """

    def scaled(u: jax.Array) -> jax.Array:
        rows, columns = u.shape
        if consistent_rms is None:
            return max(1, columns / max(rows, 1)) ** 0.5 * u
        return (max(rows, columns) ** 0.5 * consistent_rms) * u

    return leafwise(emit=scaled)


# Muon


@transformation
def scale_by_muon(
    ns_coeffs: Any = STANDARD,
    ns_steps: Steps = 5,
    beta: Decay = 0.95,
    eps: NonNegative = 1e-8,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
) -> Any:
    """Momentum, orthogonalized; for trees of matrices. See `muon`. State: one slot per parameter.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/
    """
    return chain(
        direction(beta, nesterov, mu_dtype),
        orthogonalize(ns_coeffs, ns_steps, eps, adaptive=adaptive, preconditioning=preconditioning),
    )


@transformation
def muon(
    learning_rate: NonNegative,
    ns_coeffs: Any = STANDARD,
    ns_steps: Steps = 5,
    beta: Decay = 0.95,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Dtype | None = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: Decay = 0.9,
    adam_b2: Decay = 0.999,
    adam_eps_root: NonNegative = 0.0,
    adam_weight_decay: NonNegative = 0.0,
    adam_learning_rate: NonNegative | None = None,
    consistent_rms: NonNegative | None = None,
) -> Any:
    """Steepest descent in the spectral norm: for each matrix, with the momentum m = UΣVᵀ,
    θ ← θ − η·(√max(1, columns/rows)·UVᵀ + λ·θ); AdamW for what is no matrix.

    Embeddings and the last layer are better left to Adam, too: `partition` them.

    Args:
      learning_rate: η.
      ns_coeffs: of the Newton–Schulz steps; see `orthogonalize`.
      ns_steps: how many.
      beta: β of m.
      eps: ε, also Adam's.
      weight_decay: λ of the matrices.
      weight_decay_mask: which of them decay; see `masked`.
      mu_dtype: dtype of the momentum.
      nesterov: look ahead, as NAdam does, here and in Adam.
      adaptive: see `orthogonalize`.
      preconditioning: see `orthogonalize`.
      adam_b1: β₁ of Adam.
      adam_b2: β₂ of Adam.
      adam_eps_root: ε_root of Adam.
      adam_weight_decay: λ of Adam.
      adam_learning_rate: of Adam; η by default.
      consistent_rms: see `scale_by_shape`.

    State: one slot per element of a matrix, two per element of the rest. Needs the parameters.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/

    >>> import gradtx
    >>> gradtx.muon(0.02, adam_learning_rate=3e-4).formula
    matrices_and_others(
        matrices=chain(
            scale_by_muon(),
            scale_by_shape(),
            add_decayed_weights(),
            scale_by_learning_rate(learning_rate=0.02),
        ),
        others=adamw(learning_rate=0.0003, weight_decay=0.0, nesterov=True),
    )
    """
    matrices = chain(
        scale_by_muon(
            ns_coeffs,
            ns_steps,
            beta,
            eps,
            mu_dtype,
            nesterov=nesterov,
            adaptive=adaptive,
            preconditioning=preconditioning,
        ),
        scale_by_shape(consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
    others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        adam_b1,
        adam_b2,
        eps,
        adam_eps_root,
        mu_dtype,
        adam_weight_decay,
        nesterov=nesterov,
    )
    return matrices_and_others(matrices, others)
