"""Composable gradient transformations for JAX: optimizers that read like their formulas."""

from gradtx.clipping import clip, clip_by_block_rms, clip_by_bounds, clip_by_global_norm
from gradtx.core.arguments import Decay, NonNegative, Positive, Real
from gradtx.core.combine import (
    add,
    apply_updates,
    chain,
    identity,
    named_chain,
    product,
    scale,
    set_to_zero,
    stateless,
    stateless_with_tree_map,
)
from gradtx.core.schedule import Schedule, as_schedule, schedule
from gradtx.core.select import freeze, masked, multi_transform, partition
from gradtx.core.transformation import (
    EmptyState,
    GradientTransformation,
    HyperparamsState,
    hyperparams,
    transformation,
)
from gradtx.core.tree import LeafError, global_norm
from gradtx.factored import scale_by_factored_rms
from gradtx.optimizers.adam import (
    adam,
    adamw,
    lamb,
    nadam,
    nadamw,
    scale_by_adam,
    scale_by_nadam,
    warming_momentum_schedule,
)
from gradtx.optimizers.adaptive import adadelta, adafactor, adagrad, rmsprop, scale_by_adadelta
from gradtx.optimizers.bounded import (
    adabound,
    adaboundw,
    amsbound,
    amsboundw,
    lower_bound_schedule,
    upper_bound_schedule,
)
from gradtx.optimizers.descent import lars, lion, scale_by_lion, sgd
from gradtx.optimizers.variants import (
    adabelief,
    adamax,
    adamaxw,
    additive_average,
    amsgrad,
    radam,
    rectify,
    scale_by_adamax,
    scale_by_amsgrad,
    scale_by_belief,
    scale_by_radam,
    scale_by_yogi,
    yogi,
)
from gradtx.scaling import (
    add_decayed_weights,
    add_l1_regularization,
    add_l2_regularization,
    reduce_on_plateau,
    scale_by_learning_rate,
    scale_by_param_block_rms,
    scale_by_schedule,
    scale_by_sign,
    scale_by_trust_ratio,
)
from gradtx.statistics import (
    absolute,
    bias_correction,
    decaying_max,
    ema,
    inverse_rms,
    inverse_root,
    reciprocal,
    running_max,
    running_sum,
    saturate,
    scale_by_momentum,
    scale_by_rms,
    scale_by_rss,
    scale_by_stddev,
    square,
    trace,
)

__version__ = "0.1.0"
