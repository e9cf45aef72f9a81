"""Line searches: scale an update by a rate that makes the loss fall enough, tried out on the loss itself.

    scale_by_backtracking_linesearch    the first rate that is small enough
    scale_by_zoom_linesearch            one that is neither too small nor too large: the Wolfe conditions
    value_and_grad_from_state           the loss and the gradient that the search ended with, not computed again

A search needs the loss as a function. `make_step` and `minimize` pass it; a loop of your own writes

    tx.update(grads, state, params, value=…, grad=…, value_fn=…)
"""

from gradtx.atoms.linesearch.backtracking import scale_by_backtracking_linesearch
from gradtx.atoms.linesearch.objective import value_and_grad_from_state
from gradtx.atoms.linesearch.zoom import scale_by_zoom_linesearch

__all__ = ["scale_by_backtracking_linesearch", "scale_by_zoom_linesearch", "value_and_grad_from_state"]
