"""What several oracles compute."""

import numpy as np


def steps(gradients, learning_rate):
    """(t, g, η) of each step; a learning rate is a number or a function of the number of earlier steps."""
    for t, g in enumerate(gradients, 1):
        yield t, g, learning_rate(t - 1) if callable(learning_rate) else learning_rate


def abs2(x):
    """|x|²."""
    return (x * np.conj(x)).real


def norm(x):
    """‖x‖."""
    return np.sqrt(np.sum(abs2(x)))


def rms(x):
    """√mean|x|²."""
    return np.sqrt(np.mean(abs2(x)))


def whole(rule):
    """Mark a rule that looks at all leaves together."""
    rule.whole = True
    return rule
