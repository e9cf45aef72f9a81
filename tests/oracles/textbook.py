"""Gradient descent, adaptive methods and AdaBound, to the conventions of `oracles`."""

import numpy as np

from oracles.common import abs2, norm, rms, steps


def sgd(θ, gradients, learning_rate, momentum=None, nesterov=False):
    """Polyak 1964: b = μb + g, θ −= ηb. Sutskever et al. 2013, as torch writes it: θ −= η(g + μb)."""
    μ, b = momentum or 0.0, 0.0
    for _, g, η in steps(gradients, learning_rate):
        b = μ * b + g
        θ = θ - η * (g + μ * b if nesterov else b)
        yield θ


# A rate per element, without momentum


def adagrad(θ, gradients, learning_rate, initial_accumulator_value=0.1, eps=1e-7, eps_in_sqrt=True):
    """Duchi et al. 2011: divided by the root of the sum of squares."""
    s = initial_accumulator_value
    for _, g, η in steps(gradients, learning_rate):
        s = s + abs2(g)
        θ = θ - η * g / (np.sqrt(s + eps) if eps_in_sqrt else np.sqrt(s) + eps)
        yield θ


def rmsprop(
    θ,
    gradients,
    learning_rate,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    centered=False,
    momentum=None,
    nesterov=False,
    bias_correction=False,
):
    """Hinton 2012, slide 29; centered: Graves 2013."""
    v, a, b, μ = initial_scale, 0.0, 0.0, momentum or 0.0
    for t, g, η in steps(gradients, learning_rate):
        v = decay * v + (1 - decay) * abs2(g)
        a = decay * a + (1 - decay) * g
        seen = 1 - decay**t if bias_correction else 1.0
        variance = v / seen - abs2(a / seen) if centered else v / seen
        u = η * g / (np.sqrt(variance + eps) if eps_in_sqrt else np.sqrt(variance) + eps)
        b = μ * b + u
        θ = θ - (u + μ * b if nesterov else b)
        yield θ


def adadelta(θ, gradients, learning_rate=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    """Zeiler 2012, algorithm 1."""
    Eg = Ex = 0.0
    for _, g, η in steps(gradients, learning_rate):
        g = g + weight_decay * θ
        Eg = rho * Eg + (1 - rho) * abs2(g)
        Δ = -np.sqrt(Ex + eps) / np.sqrt(Eg + eps) * g
        Ex = rho * Ex + (1 - rho) * abs2(Δ)
        θ = θ + η * Δ
        yield θ


def adafactor(
    θ,
    gradients,
    learning_rate=None,
    min_dim_size_to_factor=128,
    decay_rate=0.8,
    decay_offset=0,
    multiply_by_parameter_scale=True,
    clipping_threshold=1.0,
    momentum=None,
    dtype_momentum=None,
    weight_decay_rate=None,
    eps=1e-30,
    factored=True,
):
    """Shazeer & Stern 2018, algorithms 4 and 5: V̂ = R·C / (1ᵀR), of the matrices that the two largest axes span."""
    *_, rows, columns = [0, 0, *np.argsort(np.shape(θ), kind="stable")]
    factored = factored and np.ndim(θ) > 1 and np.shape(θ)[rows] >= min_dim_size_to_factor
    R = C = V = M = 0.0
    for t, g, η in steps(gradients, 1.0 if learning_rate is None else learning_rate):
        β2 = 1 - max(t - decay_offset, 1) ** -decay_rate
        if factored:
            G2 = np.moveaxis(abs2(g) + eps, (rows, columns), (-2, -1))
            R = β2 * R + (1 - β2) * G2.sum(-1)
            C = β2 * C + (1 - β2) * G2.sum(-2)
            V_hat = R[..., :, None] * C[..., None, :] / R.sum(-1)[..., None, None]
            V_hat = np.moveaxis(V_hat, (-2, -1), (rows, columns))
        else:
            V_hat = V = β2 * V + (1 - β2) * (abs2(g) + eps)
        U = g / np.sqrt(V_hat)
        if clipping_threshold is not None:
            U = U / max(1.0, rms(U) / clipping_threshold)
        if momentum is not None:
            U = M = momentum * M + (1 - momentum) * U
        α = η * max(1e-3, rms(θ)) if multiply_by_parameter_scale else η
        θ = θ - α * U - (weight_decay_rate or 0.0) * θ
        yield θ


# Adam and its directions


def adam(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, nesterov=False):
    """Kingma & Ba 2015, algorithm 1."""
    return adamw(θ, gradients, learning_rate, b1, b2, eps, eps_root, 0.0, nesterov)


def adamw(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, weight_decay=1e-4, nesterov=False):
    """Loshchilov & Hutter 2019, algorithm 2, with λ times the learning rate as in torch."""
    m = v = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        θ = θ - η * (m_hat / (np.sqrt(v_hat + eps_root) + eps) + weight_decay * θ)
        yield θ


def nadam(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, momentum_decay=None):
    """Dozat 2016."""
    return nadamw(θ, gradients, learning_rate, b1, b2, eps, eps_root, 0.0, momentum_decay)


def nadamw(
    θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, weight_decay=1e-4, momentum_decay=None
):
    """Dozat 2016: μ constant, or warming up, μₜ = β₁(1 − ½·0.96^(ψt)), while m decays by β₁ as in torch."""

    def μ(t):
        return b1 if momentum_decay is None else b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    m = v = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        now = np.prod([μ(i) for i in range(1, t + 1)])
        m_bar = μ(t + 1) * m / (1 - now * μ(t + 1)) + (1 - μ(t)) * g / (1 - now)
        θ = θ - η * (m_bar / (np.sqrt(v / (1 - b2**t) + eps_root) + eps) + weight_decay * θ)
        yield θ


def lamb(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-6, eps_root=0.0, weight_decay=0.0):
    """You et al. 2020, algorithm 2, with φ the identity."""
    m = v = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        u = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps) + weight_decay * θ
        ratio = norm(θ) / norm(u) if norm(θ) > 0 and norm(u) > 0 else 1.0
        θ = θ - η * ratio * u
        yield θ


def lars(θ, gradients, learning_rate, weight_decay=0.0, trust_coefficient=0.001, eps=0.0, momentum=0.9, nesterov=False):
    """You et al. 2017, algorithm 1, with ‖g + λθ‖ as in Optax where the paper has ‖g‖ + λ‖θ‖."""
    b = 0.0
    for _, g, η in steps(gradients, learning_rate):
        u = g + weight_decay * θ
        ratio = trust_coefficient * norm(θ) / (norm(u) + eps) if norm(θ) > 0 and norm(u) > 0 else 1.0
        b = momentum * b + η * ratio * u
        θ = θ - (η * ratio * u + momentum * b if nesterov else b)
        yield θ


def lion(θ, gradients, learning_rate, b1=0.9, b2=0.99, weight_decay=1e-3):
    """Chen et al. 2023, algorithm 2."""
    m = np.zeros_like(θ)
    for _, g, η in steps(gradients, learning_rate):
        c = b1 * m + (1 - b1) * g
        m = b2 * m + (1 - b2) * g
        θ = θ - η * (np.sign(c) + weight_decay * θ)
        yield θ


# Adam with another rate


def amsgrad(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0):
    """Reddi et al. 2018, algorithm 2, with Adam's corrections after the maximum, as in torch."""
    m = v = v_max = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        v_max = np.maximum(v_max, v)
        θ = θ - η * (m / (1 - b1**t)) / (np.sqrt(v_max / (1 - b2**t) + eps_root) + eps)
        yield θ


def adamax(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma & Ba 2015, algorithm 2."""
    return adamaxw(θ, gradients, learning_rate, b1, b2, eps, 0.0)


def adamaxw(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4):
    """The same with decoupled decay; ε keeps u from 0."""
    m = u = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        u = np.maximum(b2 * u, np.abs(g) + eps)
        θ = θ - η / (1 - b1**t) * m / u - η * weight_decay * θ
        yield θ


def yogi(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-3):
    """Zaheer et al. 2018, algorithm 2, from v = 1e-6, with Adam's corrections (as Optax)."""
    m, v = 0.0, 1e-6
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = v - (1 - b2) * np.sign(v - abs2(g)) * abs2(g)
        θ = θ - η * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        yield θ


def radam(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, threshold=5.0, nesterov=False):
    """Liu et al. 2020, algorithm 2 (the paper's threshold is 4, its code's and everybody's is 5)."""
    m = v = 0.0
    ρ_inf = 2 / (1 - b2) - 1
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        ρ = ρ_inf - 2 * t * b2**t / (1 - b2**t)
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        if ρ >= threshold:
            r = np.sqrt((ρ - 4) * (ρ - 2) * ρ_inf / ((ρ_inf - 4) * (ρ_inf - 2) * ρ))
            θ = θ - η * r * m_hat / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        else:
            θ = θ - η * m_hat
        yield θ


def adabelief(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16, nesterov=False):
    """Zhuang et al. 2020, algorithm 2: the belief is in the new m, ε_root is added to s at every step."""
    m = s = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * abs2(g - m) + eps_root
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        θ = θ - η * m_hat / (np.sqrt(s / (1 - b2**t)) + eps)
        yield θ


# Between bounds


def adabound(θ, gradients, **arguments):
    """Luo et al. 2019, with the corrections and bounds of the authors' code."""
    return _bounded(θ, gradients, **arguments)


def amsbound(θ, gradients, **arguments):
    """The same, of the largest v so far."""
    return _bounded(θ, gradients, maximum=True, **arguments)


def adaboundw(θ, gradients, weight_decay=1e-4, **arguments):
    """With the decay of `adamw`, ηλθ. (The authors' AdaBoundW subtracts λθ.)"""
    return _bounded(θ, gradients, weight_decay=weight_decay, **arguments)


def amsboundw(θ, gradients, weight_decay=1e-4, **arguments):
    """Likewise."""
    return _bounded(θ, gradients, maximum=True, weight_decay=weight_decay, **arguments)


def _bounded(
    θ,
    gradients,
    learning_rate=1e-3,
    b1=0.9,
    b2=0.999,
    final_lr=0.1,
    gamma=1e-3,
    eps=1e-8,
    base_lr=None,
    weight_decay=0.0,
    maximum=False,
):
    """m itself is not corrected: the correction is part of the rate that is clipped."""
    m = v = v_max = 0.0
    for t, g, η in steps(gradients, learning_rate):
        base_lr = η if base_lr is None else base_lr
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        v_max = np.maximum(v_max, v)
        rate = η * np.sqrt(1 - b2**t) / (1 - b1**t) / (np.sqrt(v_max if maximum else v) + eps)
        f = final_lr * η / base_lr
        rate = np.clip(rate, f * (1 - 1 / (gamma * t + 1)), f * (1 + 1 / (gamma * t)))
        θ = θ - rate * m - η * weight_decay * θ
        yield θ
