"""Muon: orthogonalized momentum for the matrices of a model, Adam for everything else."""

from typing import Any

from gradtx.atoms.directions import direction
from gradtx.atoms.learning_rate import scale_by_learning_rate
from gradtx.atoms.orthogonalize import STANDARD, orthogonalize, scale_by_shape
from gradtx.atoms.weight_decay import add_decayed_weights
from gradtx.core.arguments import Decay, Dtype, NonNegative, Steps
from gradtx.core.combine import chain
from gradtx.core.transformation import optimizer, transformation
from gradtx.optimizers.adam import adamw
from gradtx.wrappers.matrices_and_others import matrices_and_others

__all__ = ["muon", "scale_by_muon"]


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
    """Orthogonalized momentum, for trees of matrices. See `muon`. State: one slot per parameter.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon/
    """
    return chain(
        direction(beta, nesterov, mu_dtype),
        orthogonalize(ns_coeffs, ns_steps, eps, adaptive=adaptive, preconditioning=preconditioning),
    )


@optimizer
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
    """Steepest descent in the spectral norm for matrices, by orthogonalized momentum m = UΣVᵀ:
    θ ← θ − η·(√max(1, columns/rows)·UVᵀ + λ·θ). Leaves that are not matrices get AdamW.

    Embeddings and the output layer are better left to Adam, too; use `partition` for that.

    Args:
      learning_rate: η.
      ns_coeffs: coefficients of the Newton–Schulz iteration; see `orthogonalize`.
      ns_steps: number of its steps.
      beta: β of m.
      eps: ε, also Adam's.
      weight_decay: λ of the matrices.
      weight_decay_mask: which matrices decay; see `masked`.
      mu_dtype: dtype of the momentum.
      nesterov: Nesterov momentum, as in NAdam, for the matrices and in Adam.
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
