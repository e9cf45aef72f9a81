"""Line searches: scale an update by a step size that makes the loss fall enough, found by evaluating the loss itself.

    scale_by_backtracking_linesearch    the first step size that is small enough
    scale_by_zoom_linesearch            one that is neither too small nor too large: the Wolfe conditions
    value_and_grad_from_state           the loss and gradient that a search ended with, without recomputing them

A search needs the loss as a function. `make_step` and `minimize` pass it; in a loop of your own, write

    tx.update(grads, state, params, value=…, grad=…, value_fn=…)
"""

from gradtx.atoms.linesearch.backtracking import scale_by_backtracking_linesearch
from gradtx.atoms.linesearch.objective import value_and_grad_from_state
from gradtx.atoms.linesearch.zoom import scale_by_zoom_linesearch

__all__ = ["scale_by_backtracking_linesearch", "scale_by_zoom_linesearch", "value_and_grad_from_state"]
