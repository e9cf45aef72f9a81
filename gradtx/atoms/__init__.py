"""Atoms: what optimizers are composed of.

averages           of the updates: momentum, exponential moving averages, sums, maxima, bias corrections
preconditioners    per-element scaling: inverse roots of averages of squares
directions         signs, differences, bias-corrected and Nesterov momentum
learning_rate      constant factors, learning rates, schedules, reduction on a plateau
weight_decay       decoupled, as a gradient, proximal, cautious
clipping           per element, per unit, per leaf, global
trust_ratio        steps in proportion to the norms of the parameters
factored           matrix statistics stored as vectors
orthogonalize      matrices with all singular values set to about one
hutchinson         the diagonal of the Hessian
stateless          your own functions, frozen parameters
grokfast, noise, cleaning
linesearch/        backtracking and zoom
"""

from gradtx.atoms.averages import (
    additive_average,
    bias_correction,
    decaying_max,
    delayed_ema,
    ema,
    running_max,
    running_sum,
    saturate,
    scale_by_momentum,
    trace,
)
from gradtx.atoms.cleaning import centralize, keep_params_nonnegative, zero_nans
from gradtx.atoms.clipping import (
    adaptive_grad_clip,
    clip,
    clip_by_block_norm,
    clip_by_block_rms,
    clip_by_bounds,
    clip_by_ema,
    clip_by_global_norm,
    clip_preconditioner,
    clip_rate,
    normalize_by_update_norm,
    per_example_global_norm_clip,
    per_example_layer_norm_clip,
    unitwise_norm,
)
from gradtx.atoms.directions import arctan, difference, scale_by_sign, scale_by_smooth_sign
from gradtx.atoms.factored import covering_sum, scale_by_factored_rms
from gradtx.atoms.grokfast import grokfast
from gradtx.atoms.hutchinson import hutchinson_estimator_diag_hessian
from gradtx.atoms.learning_rate import reduce_on_plateau, scale, scale_by_learning_rate, scale_by_schedule
from gradtx.atoms.linesearch import (
    scale_by_backtracking_linesearch,
    scale_by_zoom_linesearch,
    value_and_grad_from_state,
)
from gradtx.atoms.noise import add_noise
from gradtx.atoms.orthogonalize import orthogonalize, scale_by_shape
from gradtx.atoms.preconditioners import (
    absolute,
    inverse_rms,
    inverse_root,
    power,
    reciprocal,
    scale_by_rms,
    scale_by_rss,
    scale_by_stddev,
    square,
)
from gradtx.atoms.stateless import freeze, set_to_zero, stateless, stateless_with_tree_map
from gradtx.atoms.trust_ratio import scale_by_param_block_norm, scale_by_param_block_rms, scale_by_trust_ratio
from gradtx.atoms.weight_decay import (
    add_cautious_weight_decay,
    add_decayed_weights,
    add_l1_regularization,
    add_l2_regularization,
    decay_weights,
    proximal_weight_decay,
)

__all__ = [
    "absolute",
    "adaptive_grad_clip",
    "add_cautious_weight_decay",
    "add_decayed_weights",
    "add_l1_regularization",
    "add_l2_regularization",
    "add_noise",
    "additive_average",
    "arctan",
    "bias_correction",
    "centralize",
    "clip",
    "clip_by_block_norm",
    "clip_by_block_rms",
    "clip_by_bounds",
    "clip_by_ema",
    "clip_by_global_norm",
    "clip_preconditioner",
    "clip_rate",
    "covering_sum",
    "decay_weights",
    "decaying_max",
    "delayed_ema",
    "difference",
    "ema",
    "freeze",
    "grokfast",
    "hutchinson_estimator_diag_hessian",
    "inverse_rms",
    "inverse_root",
    "keep_params_nonnegative",
    "normalize_by_update_norm",
    "orthogonalize",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
    "power",
    "proximal_weight_decay",
    "reciprocal",
    "reduce_on_plateau",
    "running_max",
    "running_sum",
    "saturate",
    "scale",
    "scale_by_backtracking_linesearch",
    "scale_by_factored_rms",
    "scale_by_learning_rate",
    "scale_by_momentum",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
    "scale_by_rms",
    "scale_by_rss",
    "scale_by_schedule",
    "scale_by_shape",
    "scale_by_sign",
    "scale_by_smooth_sign",
    "scale_by_stddev",
    "scale_by_trust_ratio",
    "scale_by_zoom_linesearch",
    "set_to_zero",
    "square",
    "stateless",
    "stateless_with_tree_map",
    "trace",
    "unitwise_norm",
    "value_and_grad_from_state",
    "zero_nans",
]
