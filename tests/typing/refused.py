"""What type checkers must refuse: each line below is an error in mypy --strict and in pyright.

A comment that ignores nothing is an error itself, in both, so that this file fails where a mistake is no longer found.
"""

import jax.numpy as jnp

import gradtx


def loss(params: gradtx.Params) -> gradtx.Params:
    return params


gradtx.adam("fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.adam([0.1, 0.2])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.adam(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.adam(0.1, mu_dtype=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.adam(0.1, nesterov="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.adam(lr=0.1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
gradtx.adam()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
gradtx.chain(gradtx.adam(1e-3), 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.chain(gradtx.adam)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.chain(clip="1.0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.partition({"*": 0.1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
gradtx.clip_by_global_norm("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.lookahead(0.1, 5, 0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.cosine_decay_schedule("a", 10)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.cosine_decay_schedule(1.0, "ten")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
half = gradtx.cosine_decay_schedule(1.0, 10) - "half"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
gradtx.make_step(loss, 0.1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.minimize(loss, jnp.zeros(2), "adam", steps=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.accumulate(gradtx.adam(0.1), every=0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
gradtx.mask(gradtx.adam(0.1), "bias")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
