"""What a transformation is made of, as seen while its state is initialised.

Combinators initialise their parts through one function, `initialize`. Watching it shows, for any composition and
without conventions between combinators, which parameters each stage sees and where its state is kept.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from gradtx.core.build import watcher
from gradtx.core.tree import key_name
from gradtx.core.value import Value

__all__ = ["Stage", "stages"]

Tree = Any


@dataclasses.dataclass(eq=False)
class Stage:
    """A transformation at its place in another."""

    tx: Any
    params: Tree  # those that it sees, as shapes; None where it does not get a leaf
    state: Tree = None  # as shapes, including those of its parts
    parts: "list[Stage]" = dataclasses.field(default_factory=list)
    path: tuple[str, ...] = ()  # of its state, within that of the outermost stage

    def walk(self) -> "Iterator[Stage]":
        """This stage, then all stages in it, in order."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def watch(self, init: Callable[[Tree], Tree], tx: Any, params: Tree) -> Tree:
        """`init(params)` of a transformation inside this one, which is recorded as a part of it."""
        part = Stage(tx, params)
        self.parts.append(part)
        token = watcher.set(part.watch)
        try:
            part.state = init(params)
        finally:
            watcher.reset(token)
        return part.state


def stages(tx: Any, params: Tree) -> Stage:
    """The tree of stages of a transformation for these parameters. Shapes suffice; nothing is computed.

    Args:
      tx: the transformation; another library's is a stage without parts.
      params: a pytree of arrays or of `jax.ShapeDtypeStruct`.
    """
    outside = Stage(None, None)

    def init(params: Tree) -> Tree:
        token = watcher.set(outside.watch)
        try:
            state = tx.init(params) if isinstance(tx, Value) else outside.watch(tx.init, tx, params)
        finally:
            watcher.reset(token)
        for stage in outside.walk():  # while these are still the very objects that the states consist of
            stage.parts = [part for part in stage.parts if _place(part, stage) or stage is outside]
        for stage in outside.walk():
            stage.params, stage.state = jax.tree.map(_shape, (stage.params, stage.state))
        return state

    jax.eval_shape(init, params)
    return outside.parts[0]


def _place(part: Stage, stage: Stage) -> bool:
    """Find the part's state in that of the stage, and record where."""
    if part.state is stage.state:
        part.path = stage.path
        return True
    for keys, node in jax.tree_util.tree_flatten_with_path(stage.state, is_leaf=lambda x: x is part.state)[0]:
        if node is part.state:
            part.path = (*stage.path, *map(key_name, keys))
            return True
    return False


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), jax.numpy.result_type(leaf))
