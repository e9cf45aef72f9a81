"""Test functions of one and two variables, on which optimizers are plotted.

A function takes its point as a number (one variable) or as an array whose first axis holds the two variables; further
axes hold many points, so that `f(np.linspace(…))` and `f(np.stack(np.meshgrid(…)))` give what a plot needs.

    one variable     square, x_cos_pi_x (a local minimum), cube (a flat point), hyperbolic_tangent (flat far out)
    two variables    saddle, ravine, rosenbrock, beale, himmelblau (four minima), rastrigin (many local minima)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

__all__ = [
    "TEST_FUNCTIONS",
    "TestFunction",
    "beale",
    "cube",
    "himmelblau",
    "hyperbolic_tangent",
    "rastrigin",
    "ravine",
    "rosenbrock",
    "saddle",
    "square",
    "x_cos_pi_x",
]

Point = float | tuple[float, ...]


@dataclass(frozen=True)
class TestFunction:
    """A function to minimise, with its known properties.

    >>> from gradtx import test_functions
    >>> float(test_functions.rosenbrock(test_functions.rosenbrock.minima[0]))
    0.0
    """

    __test__: ClassVar[bool] = False  # keeps pytest from collecting the class

    name: str
    formula: str  # in mathematical notation
    function: Callable[[jax.Array], jax.Array]
    domain: tuple[tuple[float, float], ...]  # the interval to draw, for each variable
    start: Point  # where optimizers start
    minima: tuple[Point, ...] = ()  # the global ones; empty if there are none
    minimum: float = -math.inf  # the value at the minima, or the infimum
    goal: float | None = None  # if there is no minimum: the value to get below

    @property
    def dimension(self) -> int:
        """The number of variables."""
        return len(self.domain)

    def __call__(self, x: Any) -> jax.Array:
        """The value at a point, or at many: the first axis of `x` holds the variables if there are two."""
        return self.function(jnp.asarray(x, float))

    def contains(self, x: Any) -> bool:
        """Whether a point lies in the domain."""
        point = [x] if self.dimension == 1 else x
        return all(bool(low <= xi <= high) for xi, (low, high) in zip(point, self.domain, strict=True))


# One variable

square = TestFunction(
    "square",
    "x²",
    lambda x: x * x,
    domain=((-11.0, 11.0),),
    start=10.0,
    minima=(0.0,),
    minimum=0.0,
)

# The other minimum in the domain, at x = -0.2739 with the value -0.1786, is a local one.
x_cos_pi_x = TestFunction(
    "x_cos_pi_x",
    "x·cos(πx)",
    lambda x: x * jnp.cos(jnp.pi * x),
    domain=((-1.0, 2.0),),
    start=-0.9,
    minima=(1.0904082,),
    minimum=-1.0467211,
)

cube = TestFunction("cube", "x³", lambda x: x**3, domain=((-2.0, 2.0),), start=1.5, goal=-1.0)

hyperbolic_tangent = TestFunction(
    "hyperbolic_tangent",
    "tanh x",
    jnp.tanh,
    domain=((-5.0, 5.0),),
    start=4.0,
    minimum=-1.0,
    goal=-0.9,
)

# Two variables

saddle = TestFunction(
    "saddle",
    "x₁² − x₂²",
    lambda x: x[0] ** 2 - x[1] ** 2,
    domain=((-2.0, 2.0), (-2.0, 2.0)),
    start=(-1.5, 0.01),
    goal=-1.0,
)

ravine = TestFunction(
    "ravine",
    "0.1·x₁² + 2·x₂²",
    lambda x: 0.1 * x[0] ** 2 + 2 * x[1] ** 2,
    domain=((-6.0, 2.0), (-3.0, 3.0)),
    start=(-5.0, -2.0),
    minima=((0.0, 0.0),),
    minimum=0.0,
)

rosenbrock = TestFunction(
    "rosenbrock",
    "(1 − x₁)² + 100·(x₂ − x₁²)²",
    lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2,
    domain=((-2.0, 2.0), (-1.0, 3.0)),
    start=(-1.2, 1.0),
    minima=((1.0, 1.0),),
    minimum=0.0,
)

beale = TestFunction(
    "beale",
    "(1.5 − x₁ + x₁x₂)² + (2.25 − x₁ + x₁x₂²)² + (2.625 − x₁ + x₁x₂³)²",
    lambda x: sum(
        ((c - x[0] + x[0] * x[1] ** power) ** 2 for power, c in enumerate((1.5, 2.25, 2.625), 1)), jnp.zeros(())
    ),
    domain=((-4.5, 4.5), (-4.5, 4.5)),
    start=(1.0, 1.0),
    minima=((3.0, 0.5),),
    minimum=0.0,
)

himmelblau = TestFunction(
    "himmelblau",
    "(x₁² + x₂ − 11)² + (x₁ + x₂² − 7)²",
    lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2,
    domain=((-5.0, 5.0), (-5.0, 5.0)),
    start=(-0.5, -1.0),
    minima=((3.0, 2.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)),
    minimum=0.0,
)

rastrigin = TestFunction(
    "rastrigin",
    "20 + x₁² − 10·cos(2πx₁) + x₂² − 10·cos(2πx₂)",
    lambda x: 20 + x[0] ** 2 - 10 * jnp.cos(2 * jnp.pi * x[0]) + x[1] ** 2 - 10 * jnp.cos(2 * jnp.pi * x[1]),
    domain=((-5.12, 5.12), (-5.12, 5.12)),
    start=(-2.3, 1.7),
    minima=((0.0, 0.0),),
    minimum=0.0,
)

#: Every test function, by name.
TEST_FUNCTIONS: dict[str, TestFunction] = {
    f.name: f
    for f in (
        square,
        x_cos_pi_x,
        cube,
        hyperbolic_tangent,
        saddle,
        ravine,
        rosenbrock,
        beale,
        himmelblau,
        rastrigin,
    )
}
