"""The one case table: every optimizer, its oracle, and what it claims. Each claim is measured by a test.

A row is all that a new optimizer needs to be covered by the laws, the pitfalls, the parity with its source and the
slots of state.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradtx


@dataclass(frozen=True)
class Case:
    """One optimizer with fixed arguments."""

    name: str  # unique, for test ids
    make: Callable[..., gradtx.GradientTransformation]  # the constructor
    arguments: dict[str, Any] = field(default_factory=dict)
    slots: int | None = None  # state numbers per parameter; None where it depends on the shape
    needs_params: bool = False  # update reads the parameters
    scale_invariant: bool = False  # multiplying all gradients by a constant leaves the updates as they are (ε aside)
    sign_only: bool = False  # every element of an update has the same size
    zero_stays: bool = True  # zero gradients give zero updates
    complex_safe: bool = True
    bounded_steps: bool = True  # the size of a step does not grow with that of its gradient
    in_place: bool = (
        True  # a donated step needs no temporaries (no norms, no value shared by three readers, no old state read)
    )
    # Whose function of the same name and arguments gives the same numbers: "optax" or "optax.contrib", else "torch" or
    # "paper".
    source: str = "optax"

    @property
    def tx(self) -> gradtx.GradientTransformation:
        """The optimizer."""
        return self.make(**self.arguments)


def _case(name: str, arguments: dict[str, Any] | None = None, /, *, label: str = "", **claims: Any) -> Case:
    return Case(label or name, getattr(gradtx, name), arguments or {}, **claims)


LR = {"learning_rate": 1e-2}

CASES = (
    _case("sgd", LR, bounded_steps=False, slots=0),
    _case("sgd", LR | {"momentum": 0.9}, label="sgd-momentum", bounded_steps=False, slots=1),
    _case("sgd", LR | {"momentum": 0.9, "nesterov": True}, label="sgd-nesterov", bounded_steps=False, slots=1),
    _case("adagrad", LR, slots=1),
    _case("rmsprop", LR, slots=1, scale_invariant=True),
    _case("rmsprop", LR | {"eps_in_sqrt": False, "decay": 0.99}, label="rmsprop-torch", slots=1, scale_invariant=True),
    _case(
        "rmsprop",
        LR | {"centered": True, "momentum": 0.9},
        label="rmsprop-centered",
        slots=3,
        in_place=False,
        scale_invariant=True,
    ),
    _case("adadelta", {"learning_rate": 1.0}, slots=2, scale_invariant=True),
    _case("adam", LR, slots=2, scale_invariant=True),
    _case("adamw", LR, slots=2, needs_params=True, zero_stays=False, scale_invariant=True),
    _case("adamax", LR, slots=2, scale_invariant=True),
    _case("adamaxw", LR, slots=2, needs_params=True, zero_stays=False, scale_invariant=True),
    _case("nadam", LR, slots=2, scale_invariant=True),
    _case("nadam", LR | {"momentum_decay": 4e-3}, label="nadam-torch", slots=2, scale_invariant=True, source="torch"),
    _case("nadamw", LR, slots=2, needs_params=True, zero_stays=False, scale_invariant=True),
    _case("amsgrad", LR, slots=3, scale_invariant=True, source="torch"),
    _case("adafactor", LR, in_place=False, needs_params=True, scale_invariant=True),
    _case(
        "adafactor",
        LR | {"min_dim_size_to_factor": 2},
        label="adafactor-factored",
        in_place=False,
        needs_params=True,
        scale_invariant=True,
    ),
    _case("adabound", {}, bounded_steps=False, slots=2, source="torch"),
    _case("adaboundw", {}, bounded_steps=False, slots=2, needs_params=True, zero_stays=False, source="torch"),
    _case("amsbound", {}, bounded_steps=False, slots=3, source="torch"),
    _case("amsboundw", {}, bounded_steps=False, slots=3, needs_params=True, zero_stays=False, source="torch"),
    _case("yogi", LR, slots=2, source="paper"),
    _case("radam", LR, bounded_steps=False, slots=2),
    _case("adabelief", LR, slots=2, scale_invariant=True),
    _case(
        "lion",
        LR | {"weight_decay": 0.0},
        label="lion",
        slots=1,
        needs_params=True,
        sign_only=True,
        scale_invariant=True,
    ),
    _case("lamb", LR, in_place=False, slots=2, needs_params=True, scale_invariant=True),
    _case("lars", LR, in_place=False, slots=1, needs_params=True, scale_invariant=True),
    # The rest of Optax's core
    _case("sign_sgd", LR, slots=0, sign_only=True, scale_invariant=True),
    _case("signum", LR, slots=1, sign_only=True, scale_invariant=True),
    _case("rprop", LR, slots=2, scale_invariant=True, source="torch"),
    _case("optimistic_gradient_descent", LR, slots=1, in_place=False, bounded_steps=False),
    _case("optimistic_adam", LR, slots=3, in_place=False, scale_invariant=True),
    _case(
        "optimistic_adam",
        LR | {"optimism": 5e-3},
        label="optimistic_adam-rates",
        slots=3,
        in_place=False,
        scale_invariant=True,
    ),
    _case("optimistic_adam_v2", LR, slots=3, in_place=False, scale_invariant=True),
    _case("adan", LR, slots=4, needs_params=True, scale_invariant=True),
    _case("fromage", LR, slots=0, in_place=False, needs_params=True, zero_stays=False, scale_invariant=True),
    _case("novograd", LR, slots=1, in_place=False, needs_params=True, scale_invariant=True),
    _case(
        "noisy_sgd", LR | {"eta": 0.0}, slots=0, in_place=False, bounded_steps=False
    ),  # its noise has tests of its own
    _case("sm3", LR, in_place=False, scale_invariant=True, source="paper"),
    # Contributed
    _case("adopt", LR, slots=2, in_place=False, complex_safe=False, scale_invariant=True, source="optax.contrib"),
    _case("acprop", LR, slots=2, in_place=False, bounded_steps=False, needs_params=True, source="paper"),
    _case("ademamix", LR, slots=3, needs_params=True, scale_invariant=True, source="optax.contrib"),
    _case("simplified_ademamix", LR, slots=2, needs_params=True, scale_invariant=True, source="optax.contrib"),
    _case("qhadam", LR, slots=2, needs_params=True, scale_invariant=True, source="paper"),
    _case("laprop", LR, slots=2, needs_params=True, scale_invariant=True, source="paper"),
    _case("adam_atan2", LR, slots=2, needs_params=True, scale_invariant=True, source="paper"),
    _case(
        "stable_adamw",
        LR,
        slots=2,
        in_place=False,
        needs_params=True,
        zero_stays=False,
        scale_invariant=True,
        source="paper",
    ),
    _case("adamod", LR, slots=3, in_place=False, scale_invariant=True, source="paper"),
    _case("padam", {}, slots=3, bounded_steps=False, source="paper"),
    _case("mars", {}, slots=3, in_place=False, needs_params=True, source="paper"),
    _case("madgrad", LR, slots=3, bounded_steps=False, needs_params=True, source="paper"),
    _case("scale_by_madgrad", LR, slots=3, bounded_steps=False, needs_params=True, source="paper"),
    _case("dog", {}, slots=1, in_place=False, needs_params=True, scale_invariant=True, source="optax.contrib"),
    _case("dowg", {}, slots=1, in_place=False, needs_params=True, scale_invariant=True, source="optax.contrib"),
    _case("prodigy", {}, slots=4, in_place=False, needs_params=True, scale_invariant=True, source="optax.contrib"),
    _case("dadapt_adamw", {}, slots=3, in_place=False, needs_params=True, scale_invariant=True, source="optax.contrib"),
    _case("cocob", {}, slots=5, in_place=False, needs_params=True, scale_invariant=True, source="optax.contrib"),
    _case(
        "sophia",
        LR | {"hessian_diagonal_fn": gradtx.square()},
        slots=2,
        in_place=False,
        needs_params=True,
        zero_stays=False,
        complex_safe=False,
        source="optax.contrib",
    ),
    _case("muon", LR, slots=1, in_place=False, needs_params=True, scale_invariant=True, source="optax.contrib"),
    # Quasi-Newton, without a line search: that needs the loss, not gradients alone
    _case(
        "lbfgs",
        LR | {"linesearch": None},
        slots=22,
        in_place=False,
        needs_params=True,
        scale_invariant=True,
        source="paper",  # Optax keeps the pairs with ⟨s, y⟩ < 0, too
    ),
)

BY_NAME = {case.name: case for case in CASES}
assert len(BY_NAME) == len(CASES), "labels of cases must be unique"
