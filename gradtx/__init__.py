"""Composable gradient transformations for JAX: optimizers that read like their formulas.

    tx = gradtx.adamw(1e-3, weight_decay=1e-2)      an optimizer is a value: print it, compare it, pass it through jit
    step = gradtx.make_step(loss, tx)               a compiled training step

Every everyday name is here, in `gradtx` itself. The same names stand in rooms, by what they are for:

    gradtx.optimizers     adam, adamw, sgd, lion, muon, lbfgs, …: whole optimizers; `gradtx.optimizers()` lists them
    gradtx.schedules      numbers that change with the step; any hyperparameter takes one
    gradtx.atoms          what optimizers are made of: averages, preconditioners, clipping, weight decay, line searches
    gradtx.wrappers       around an optimizer: accumulate, lookahead, ema_params, sam, schedule_free, guards, monitor
    gradtx.core           chain, product, add, partition, masked; `transformation` and `leafwise` to write your own
    gradtx.training       make_step, minimize, EarlyStopping
    gradtx.tuning         lr_range_test, sweep
    gradtx.state          what a running optimizer holds: hyperparams, set_hyperparams, step_count
    gradtx.inspection     describe a transformation, find one by its name
    gradtx.checkpoints    to_config and from_config, migrate_state, states of Optax and torch
    gradtx.plotting       pictures of schedules, paths, curves and sweeps
    gradtx.losses, .projections, .tree, .tree_utils, .contrib       as in Optax

`help(gradtx.adam)` explains one name, `help(gradtx.optimizers)` a room. Shared arguments are in README's glossary.
"""

from types import ModuleType as _ModuleType

from gradtx import (
    contrib as contrib,
    losses as losses,
    optimizers as optimizers,
    plotting as plotting,
    projections as projections,
    test_functions as test_functions,
    tree as tree,
    tree_utils as tree_utils,
)
from gradtx.atoms import *
from gradtx.checkpoints import *
from gradtx.checkpoints.moved import install as _install
from gradtx.core.arguments import (
    Decay as Decay,
    Dtype as Dtype,
    NonNegative as NonNegative,
    Positive as Positive,
    Real as Real,
)
from gradtx.core.combine import (
    add as add,
    chain as chain,
    identity as identity,
    named_chain as named_chain,
    product as product,
)
from gradtx.core.hyperparameters import HyperparamsState as HyperparamsState
from gradtx.core.leafwise import leafwise as leafwise
from gradtx.core.numerics import global_norm as global_norm
from gradtx.core.roles import (
    Count as Count,
    EmptyState as EmptyState,
    Factored as Factored,
    Inner as Inner,
    Number as Number,
    RandomKey as RandomKey,
    Slot as Slot,
    Weight as Weight,
)
from gradtx.core.schedule import Schedule as Schedule, as_schedule as as_schedule, schedule as schedule
from gradtx.core.select import (
    masked as masked,
    multi_transform as multi_transform,
    partition as partition,
)
from gradtx.core.transformation import (
    GradientTransformation as GradientTransformation,
    GradientTransformationExtraArgs as GradientTransformationExtraArgs,
    Transformation as Transformation,
    transformation as transformation,
)
from gradtx.core.tree import LeafError as LeafError
from gradtx.core.typing import (
    OptState as OptState,
    Params as Params,
    ScalarOrSchedule as ScalarOrSchedule,
    Updates as Updates,
)
from gradtx.inspection import Description as Description, describe as describe, get as get
from gradtx.inspection.registry import fill as _fill, optimizers as _names
from gradtx.losses import *
from gradtx.optimizers import *
from gradtx.projections import project_params as project_params
from gradtx.schedules import *
from gradtx.state.hyperparams import (
    InjectHyperparamsState as InjectHyperparamsState,
    get_hyperparam as get_hyperparam,
    hyperparams as hyperparams,
    set_hyperparams as set_hyperparams,
    step_count as step_count,
)
from gradtx.training import *
from gradtx.tree import (
    safe_increment as safe_increment,
    safe_int32_increment as safe_int32_increment,
    safe_norm as safe_norm,
    safe_root_mean_squares as safe_root_mean_squares,
    update_infinity_moment as update_infinity_moment,
    update_moment as update_moment,
    update_moment_per_elem_norm as update_moment_per_elem_norm,
)
from gradtx.tuning import *
from gradtx.updating import *
from gradtx.wrappers import *

tree_map_params = tree.map_params
__version__ = "0.1.0"

_fill(globals())  # the table of what has a name
_install()  # for pickles of earlier versions


class _Optimizers(_ModuleType):
    """The room of optimizers: called, it lists their names."""

    def __call__(self) -> tuple[str, ...]:
        return _names()


optimizers.__class__ = _Optimizers  # pyright: ignore[reportAttributeAccessIssue]
