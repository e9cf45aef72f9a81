"""More rules as their papers state them, in NumPy float64; to the conventions of `oracles`."""

import numpy as np

from oracles.common import abs2, norm, rms, steps, whole
from oracles.textbook import adamw


def inner(a, b):
    """Re⟨a, b⟩."""
    return np.sum((np.conj(a) * b).real)


# Rates from earlier gradients


def adopt(θ, gradients, learning_rate, b1=0.9, b2=0.9999, eps=1e-6, nesterov=False, use_clipping=True):
    """Taniguchi et al. 2024, algorithm 2: v₀ = g₀², and steps from the second gradient on."""
    m = 0.0
    for t, g, η in steps(gradients, learning_rate):
        if t == 1:
            v = abs2(g)
            yield θ
            continue
        u = g / np.maximum(np.sqrt(v), eps)
        u = np.clip(u, -((t - 1) ** 0.25), (t - 1) ** 0.25) if use_clipping else u
        m = b1 * m + (1 - b1) * u
        v = b2 * v + (1 - b2) * abs2(g)
        θ = θ - η * (b1 * m + (1 - b1) * u if nesterov else m)
        yield θ


def acprop(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16, weight_decay=0.0):
    """Zhuang et al. 2021, algorithm 2: the denominator is of the step before."""
    m = s = 0.0
    for t, g, η in steps(gradients, learning_rate):
        s_hat = s / (1 - b2 ** (t - 1)) if t > 1 else 1.0
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * abs2(g - m) + eps_root
        θ = θ - η * (g / (np.sqrt(s_hat) + eps) + weight_decay * θ)
        yield θ


# Two averages


def ademamix(
    θ,
    gradients,
    learning_rate,
    b1=0.9,
    b2=0.999,
    b3=0.9999,
    alpha=5.0,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=0.0,
):
    """Pagliardini et al. 2024, algorithm 1."""
    m1 = m2 = v = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m1 = b1 * m1 + (1 - b1) * g
        m2 = b3 * m2 + (1 - b3) * g
        v = b2 * v + (1 - b2) * abs2(g)
        u = (m1 / (1 - b1**t) + alpha * m2) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        θ = θ - η * (u + weight_decay * θ)
        yield θ


def simplified_ademamix(
    θ, gradients, learning_rate, b1=0.99, b2=0.95, alpha=0.0, eps=1e-8, eps_root=0.0, weight_decay=0.0
):
    """Morwani et al. 2025, algorithm 1."""
    m = v = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + g
        v = b2 * v + (1 - b2) * abs2(g)
        u = (m + alpha * g) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps)
        θ = θ - η * (u + weight_decay * θ)
        yield θ


def qhadam(θ, gradients, learning_rate, b1=0.995, b2=0.999, nu1=0.7, nu2=1.0, eps=1e-8, weight_decay=0.0):
    """Ma & Yarats 2019, section 5."""
    m = v = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        u = ((1 - nu1) * g + nu1 * m_hat) / (np.sqrt((1 - nu2) * abs2(g) + nu2 * v_hat) + eps)
        θ = θ - η * (u + weight_decay * θ)
        yield θ


# Adam, rearranged


def laprop(θ, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-15, weight_decay=0.0):
    """Ziyin et al. 2020, algorithm 1."""
    m = n = 0.0
    for t, g, η in steps(gradients, learning_rate):
        n = b2 * n + (1 - b2) * abs2(g)
        root = np.sqrt(n / (1 - b2**t)) + eps
        m = b1 * m + (1 - b1) * g / root
        θ = θ - η * (m / (1 - b1**t) + weight_decay * θ)
        yield θ


def adam_atan2(θ, gradients, learning_rate, b1=0.9, b2=0.999, a=1.27, b=1.0, weight_decay=0.0):
    """Everett et al. 2024, section 5; of complex m the modulus."""
    m = v = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        u = a * np.arctan2(np.abs(m_hat), b * np.sqrt(v_hat)) * np.exp(1j * np.angle(m_hat))
        θ = θ - η * ((u if np.iscomplexobj(θ) else u.real) + weight_decay * θ)
        yield θ


def stable_adamw(θ, gradients, learning_rate, b1=0.9, b2=0.99, eps=1e-8, weight_decay=1e-2):
    """Wortsman et al. 2023, algorithm 2, but for the decay, which is not shortened, and ε, added in both places."""
    m = v = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        m_hat, root = m / (1 - b1**t), np.sqrt(v / (1 - b2**t)) + eps
        θ = θ - η * (m_hat / root / max(1, rms(g / root)) + weight_decay * θ)
        yield θ


def adamod(θ, gradients, learning_rate, b1=0.9, b2=0.99, b3=0.9999, eps=1e-8):
    """Ding et al. 2019, algorithm 1."""
    m = v = s = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        rate = η * np.sqrt(1 - b2**t) / (1 - b1**t) / (np.sqrt(v) + eps)
        s = b3 * s + (1 - b3) * rate
        θ = θ - np.minimum(rate, s) * m
        yield θ


def padam(θ, gradients, learning_rate=0.1, b1=0.9, b2=0.999, partial=0.125, eps=1e-8):
    """Chen et al. 2020, algorithm 1, corrected as in the authors' code."""
    m = v = x = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * abs2(g)
        x = np.maximum(x, v)
        θ = θ - η * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(x) + eps) ** (2 * partial)
        yield θ


def mars(θ, gradients, learning_rate=3e-3, b1=0.95, b2=0.99, gamma=0.025, eps=1e-8, weight_decay=0.0):
    """Yuan et al. 2024, algorithm 2 (MARS-AdamW), approximate: the last gradient is that of the last step."""
    last = 0.0 * θ

    def corrected():
        nonlocal last
        for g in gradients:
            c = g + gamma * b1 / (1 - b1) * (g - last)
            last = g
            yield c / max(1, norm(c))

    yield from adamw(θ, corrected(), learning_rate, b1, b2, eps, weight_decay=weight_decay)


# Without a learning rate


def madgrad(θ, gradients, learning_rate, momentum=0.9, weight_decay=0.0, eps=1e-6):
    """Defazio & Jelassi 2022, algorithm 1, with the authors' η + ε."""
    start, s, q = θ, 0.0, 0.0
    for t, g, η in steps(gradients, learning_rate):
        g = g + weight_decay * θ
        weight = (η + eps) * np.sqrt(t)
        s = s + weight * g
        q = q + weight * abs2(g)
        z = start - s / (np.cbrt(q) + eps)
        θ = momentum * θ + (1 - momentum) * z
        yield θ


def scale_by_madgrad(θ, gradients, learning_rate, momentum=0.9, eps=1e-6):
    """The same without weight decay."""
    return madgrad(θ, gradients, learning_rate, momentum, eps=eps)


@whole
def dog(θ, gradients, learning_rate=1.0, init_step=("heuristic", 1e-6), eps=1e-8, weight_decay=None):
    """Ivgi et al. 2023, equation 1."""
    kind, first = init_step
    start, seen = θ, 0.0
    reach = {"distance": first, "heuristic": first * (1 + norm(θ)), "learning_rate": 0.0}[kind]
    for t, g, η in steps(gradients, learning_rate):
        g = g + (weight_decay or 0.0) * θ
        reach = max(reach, norm(θ - start))
        seen = seen + norm(g) ** 2
        rate = first if kind == "learning_rate" and t == 1 else reach / np.sqrt(seen + eps)
        θ = θ - η * rate * g
        yield θ


@whole
def dowg(θ, gradients, learning_rate=1.0, init_estim_sq_dist=None, eps=1e-4, weight_decay=None):
    """Khaled et al. 2023, algorithm 1."""
    start, seen = θ, 0.0
    reach = eps if init_estim_sq_dist is None else init_estim_sq_dist
    for _, g, η in steps(gradients, learning_rate):
        g = g + (weight_decay or 0.0) * θ
        reach = max(reach, norm(θ - start) ** 2)
        seen = seen + reach * norm(g) ** 2
        θ = θ - η * reach / (np.sqrt(seen) + eps) * g
        yield θ


@whole
def prodigy(
    θ,
    gradients,
    learning_rate=1.0,
    betas=(0.9, 0.999),
    beta3=None,
    eps=1e-8,
    estim_lr0=1e-6,
    estim_lr_coef=1.0,
    weight_decay=0.0,
    safeguard_warmup=False,
):
    """Mishchenko & Defazio 2023, algorithm 4 with the correction of the authors' code."""
    b1, b2 = betas
    b3 = np.sqrt(b2) if beta3 is None else beta3
    start, d, r = θ, estim_lr0, 0.0
    m = v = s = 0.0
    for t, g, η in steps(gradients, learning_rate):
        corrected = d * η * np.sqrt(1 - b2**t) / (1 - b1**t)
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d**2 * abs2(g)
        r = b3 * r + d / estim_lr0 * corrected * inner(g, start - θ)
        s = b3 * s + d / estim_lr0 * (d if safeguard_warmup else corrected) * g
        now, d = d, max(d, estim_lr_coef * r / np.sum(np.abs(s)))
        assert now <= d
        θ = θ - corrected * (m / (np.sqrt(v) + d * eps) + weight_decay * θ)
        yield θ


@whole
def dadapt_adamw(θ, gradients, learning_rate=1.0, betas=(0.9, 0.999), eps=1e-8, estim_lr0=1e-6, weight_decay=0.0):
    """Defazio & Mishchenko 2023, algorithm 5, with the correction of the authors' code."""
    b1, b2 = betas
    b3 = np.sqrt(b2)
    d, r, m, v, s = estim_lr0, 0.0, 0.0, 0.0, 0.0
    for t, g, η in steps(gradients, learning_rate):
        step = d * η * np.sqrt(1 - b2**t) / (1 - b1**t)
        r = b3 * r + (1 - b3) * step * inner(g, s / (np.sqrt(v) + eps))
        m = b1 * m + (1 - b1) * step * g
        v = b2 * v + (1 - b2) * abs2(g)
        s = b3 * s + (1 - b3) * step * g
        d = max(d, r / ((1 - b3) * np.sum(np.abs(s))))
        θ = θ - m / (np.sqrt(v) + eps) - step * weight_decay * θ
        yield θ


def cocob(θ, gradients, learning_rate=1.0, alpha=100.0, eps=1e-8, weight_decay=0.0):
    """Orabona & Tommasi 2017, algorithm 2."""
    start, L, G, R, total = θ, eps, 0.0, 0.0, 0.0
    for _, g, η in steps(gradients, learning_rate):
        g = η * (g + weight_decay * θ)
        L = np.maximum(L, np.abs(g))
        G = G + np.abs(g)
        R = np.maximum(R - (np.conj(g) * (θ - start)).real, 0)
        total = total + g
        θ = start - total / (L * np.maximum(G + L, alpha * L)) * (L + R)
        yield θ


# Curvature and matrices


def sophia(
    θ,
    gradients,
    learning_rate,
    b1=0.965,
    b2=0.99,
    eps=1e-8,
    weight_decay=1e-4,
    gamma=0.01,
    clip_threshold=1.0,
    update_interval=10,
    hessian_diagonal_fn=None,
):
    """Liu et al. 2023, algorithm 3, in Optax's order; the Hessian is taken for the squared gradient."""
    assert hessian_diagonal_fn.name == "square"
    m = h = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = b1 * m + (1 - b1) * g
        u = np.clip(m / (1 - b1**t) / np.maximum(gamma * h, eps), -clip_threshold, clip_threshold)
        if (t - 1) % update_interval == 0:
            h = b2 * h + (1 - b2) * abs2(g)
        θ = θ - η * (u + weight_decay * θ)
        yield θ


def muon(
    θ,
    gradients,
    learning_rate,
    ns_coeffs=(3.4445, -4.7750, 2.0315),
    ns_steps=5,
    beta=0.95,
    eps=1e-8,
    weight_decay=0.0,
    nesterov=True,
    consistent_rms=None,
):
    """Jordan 2024 for matrices, with NAdam's look-ahead as in Optax; Adam for the rest."""
    if np.ndim(θ) != 2:
        yield from adamw(θ, gradients, learning_rate, eps=eps, weight_decay=0.0, nesterov=nesterov)
        return
    (a, b, c), (rows, columns) = ns_coeffs, np.shape(θ)
    m = 0.0
    for t, g, η in steps(gradients, learning_rate):
        m = beta * m + (1 - beta) * g
        ahead = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t) if nesterov else m / (1 - beta**t)
        U, Σ, V = np.linalg.svd(ahead, full_matrices=False)
        Σ = Σ / (norm(ahead) + eps)
        for _ in range(ns_steps):
            Σ = a * Σ + b * Σ**3 + c * Σ**5
        size = (
            np.sqrt(max(1, columns / rows)) if consistent_rms is None else np.sqrt(max(rows, columns)) * consistent_rms
        )
        θ = θ - η * (size * (U * Σ) @ V + weight_decay * θ)
        yield θ


# Quasi-Newton


@whole
def lbfgs(θ, gradients, learning_rate=None, memory_size=10, scale_init_precond=True, **_no_linesearch):
    """Nocedal & Wright 2006, algorithms 7.4 and 7.5, with a list of pairs; those with ⟨s, y⟩ ≤ 0 are left out."""
    pairs, γ, last = [], 1.0, None
    for _, g, η in steps(gradients, learning_rate):
        if last is not None:
            s, y = θ - last[0], g - last[1]
            kept = inner(s, y) > np.finfo(float).eps * norm(s) * norm(y)
            # As a ring has it: the oldest pair makes room, whether or not the new one is kept.
            pairs = [*pairs[len(pairs) >= memory_size :], *([(s, y)] if kept else [])]
            γ = inner(s, y) / inner(y, y) if kept else γ
        last = θ, g
        q, α = g, []
        for s, y in reversed(pairs):
            α.insert(0, inner(s, q) / inner(s, y))
            q = q - α[0] * y
        r = (γ if pairs else min(1, 1 / norm(g))) * q if scale_init_precond else q
        for (s, y), a in zip(pairs, α, strict=True):
            r = r + (a - inner(y, r) / inner(s, y)) * s
        θ = θ - η * r
        yield θ
