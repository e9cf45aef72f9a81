"""The rest of Optax's core as the papers state it, in NumPy float64; to the conventions of `oracles`."""

import numpy as np

from oracles.common import abs2, norm, steps
from oracles.textbook import sgd


def sign(x):
    """x/|x|, 0 at 0."""
    size = np.abs(x)
    return np.where(size == 0, 0, x / np.where(size == 0, 1, size))


# Signs


def sign_sgd(θ, gradients, learning_rate):
    """Bernstein et al. 2018."""
    for _, g, η in steps(gradients, learning_rate):
        θ = θ - η * sign(g)
        yield θ


def signum(θ, gradients, learning_rate, beta=0.9):
    """Bernstein et al. 2018, algorithm 1: the sign of the momentum."""
    m = 0.0
    for _, g, η in steps(gradients, learning_rate):
        m = beta * m + (1 - beta) * g
        θ = θ - η * sign(m)
        yield θ


def rprop(θ, gradients, learning_rate, eta_minus=0.5, eta_plus=1.2, min_step_size=1e-6, max_step_size=50.0):
    """Igel & Hüsken 2003, iRprop−: after a change of sign the derivative counts as 0."""
    before, size = np.zeros_like(θ), np.full(np.shape(θ), learning_rate)
    for g in gradients:
        same = (np.conj(before) * g).real
        size = np.where(same > 0, np.minimum(size * eta_plus, max_step_size), size)
        size = np.where(same < 0, np.maximum(size * eta_minus, min_step_size), size)
        before = np.where(same < 0, 0, g)
        θ = θ - size * sign(before)
        yield θ


# Changes of the gradient


def optimistic_gradient_descent(θ, gradients, learning_rate, alpha=1.0, beta=1.0):
    """Mokhtari et al. 2020, (OGDA), generalised: θ −= η((α + β)g − βg₋₁), g₋₁ = g at first."""
    before = gradients[0]
    for _, g, η in steps(gradients, learning_rate):
        θ = θ - η * ((alpha + beta) * g - beta * before)
        before = g
        yield θ


def optimistic_adam_v2(
    θ, gradients, learning_rate, alpha=1.0, beta=1.0, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, nesterov=True
):
    """Daskalakis et al. 2018, algorithm 1, with NAdam's direction."""
    m = v = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t) if nesterov else m / (1 - b1**t)
        u = m_hat / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        before = u if t == 1 else before  # noqa: F821
        θ = θ - η * (alpha * u + beta * (u - before))
        before = u
        yield θ


def optimistic_adam(
    θ, gradients, learning_rate, optimism=None, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, nesterov=True
):
    """The same, with a rate for the changes."""
    beta = learning_rate if optimism is None else optimism
    rule = optimistic_adam_v2(θ, gradients, 1.0, learning_rate, beta, b1, b2, eps, eps_root, nesterov)
    yield from rule


def adan(
    θ, gradients, learning_rate, b1=0.98, b2=0.92, b3=0.99, eps=1e-8, eps_root=1e-8, weight_decay=0.0, decoupled=False
):
    """Xie et al. 2022, algorithm 1, with averages that are corrected for their start, as in the authors' code.

    `decoupled` is the decay of AdamW, which Optax has.
    """
    m = v = n = 0.0
    before = gradients[0]
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (g - before)
        n = b3 * n + (1 - b3) * abs2(g + (1 - b2) * (g - before))
        m_hat, v_hat, n_hat = m / (1 - b1**t), v / (1 - b2**t), n / (1 - b3**t)
        u = (m_hat + (1 - b2) * v_hat) / (np.sqrt(n_hat + eps_root) + eps)
        θ = θ - η * (u + weight_decay * θ) if decoupled else (θ - η * u) / (1 + η * weight_decay)
        before = g
        yield θ


# By layer


def fromage(θ, gradients, learning_rate, min_norm=1e-6):
    """Bernstein et al. 2020, algorithm 1."""
    for _, g, η in steps(gradients, learning_rate):
        ratio = max(norm(θ), min_norm) / max(norm(g), min_norm)
        θ = (θ - η * ratio * g) / np.sqrt(1 + η**2)
        yield θ


def novograd(θ, gradients, learning_rate, b1=0.9, b2=0.25, eps=1e-6, eps_root=0.0, weight_decay=0.0):
    """Ginsburg et al. 2019, algorithm 1."""
    m = 0.0
    for t, g, η in steps(gradients, learning_rate):
        v = norm(g) ** 2 if t == 1 else b2 * v + (1 - b2) * norm(g) ** 2  # noqa: F821
        m = b1 * m + (g / (np.sqrt(v + eps_root) + eps) + weight_decay * θ)
        θ = θ - η * m
        yield θ


# The rest


def noisy_sgd(θ, gradients, learning_rate, eta=0.01, gamma=0.55):
    """Neelakantan et al. 2015 without its noise, which has tests of its own."""
    assert eta == 0
    return sgd(θ, gradients, learning_rate)


def sm3(θ, gradients, learning_rate, momentum=0.9):
    """Anil et al. 2019, SM3-II, element by element; the sets are rows, columns, …; ε = 1e-8 inside the root."""
    θ, m = np.array(θ), np.zeros_like(θ)
    largest = [np.zeros(n) for n in θ.shape] if θ.ndim > 1 else None
    s = np.zeros(θ.shape)
    for _, g, η in steps(gradients, learning_rate):
        g = np.asarray(g)
        if largest is None:
            s = s + abs2(g)
        else:
            new = [np.zeros_like(x) for x in largest]
            for index in np.ndindex(θ.shape):
                s[index] = min(x[i] for x, i in zip(largest, index, strict=True)) + abs2(g[index])
                for x, i in zip(new, index, strict=True):
                    x[i] = max(x[i], s[index])
            largest = new
        m = momentum * m + (1 - momentum) * g / np.sqrt(s + 1e-8)
        θ = θ - η * m
        yield θ
