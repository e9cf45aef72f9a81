"""One way to choose leaves, and the transformations that treat leaves differently.

Leaves are chosen by

    a pattern      of a path such as "encoder/0/bias", as in .gitignore:
                   "bias" or "*norm*" (no slash) matches any name on the path, so "encoder" is everything below it;
                   "encoder/*/bias" (with a slash) matches the whole path, where * stands for anything, / included;
                   re.compile("bias|scale$") is searched for in the path
    a predicate    f(path, leaf) -> bool (or a label)
    a tree         booleans (or labels) in the structure of the parameters or a prefix of it;
                   a function f(params) that returns such a tree, as Optax has it

A leaf that is left out is None for the transformation inside: it has no state there and passes through.
"""

import fnmatch
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gradtx.core.build import build, initialize, run
from gradtx.core.leafwise import Leafwise
from gradtx.core.transformation import Transformation, Transformations, transformation
from gradtx.core.tree import LeafError, is_none, listed, map_with_path
from gradtx.core.value import label_name

__all__ = ["arity", "masked", "multi_transform", "partition", "select"]

Tree = Any


def _matches(pattern: str | re.Pattern[str], path: str) -> bool:
    path = path.removesuffix("/value")  # flax.nnx keeps a parameter's array in its `value`
    if not isinstance(pattern, str):
        return bool(pattern.search(path))
    candidates = [path] if "/" in pattern else path.split("/")
    return any(fnmatch.fnmatchcase(candidate, pattern) for candidate in candidates)


def _is_function(where: Any) -> bool:
    """A function, and not a pytree that happens to be callable (an Equinox module of booleans)."""
    return callable(where) and jax.tree_util.all_leaves([where])


def arity(f: Any) -> int:
    """How many positional arguments a function requires; 1 where its signature is unknown."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


def select(where: Any, tree: Tree) -> Tree:
    """The tree of answers of a selection: booleans (or labels) with the structure of `tree`, None leaves included.

    Args:
      where: a pattern, a predicate, or a tree; see the module's docstring.
      tree: the parameters (or updates) to choose from.

    Raises:
      ValueError: a pattern that matches no leaf of a tree that has some.
      LeafError: a tree of answers that is not a prefix of `tree`.
    """
    if isinstance(where, (str, re.Pattern)):
        answers = map_with_path(lambda path, _: _matches(where, path), tree)
        if jax.tree.leaves(answers) and not any(jax.tree.leaves(answers)):
            raise ValueError(f"the pattern {_written(where)} matches no leaf; the leaves are {listed(tree)}")
        return answers
    return _answers(where, tree)


def _answers(where: Any, tree: Tree) -> Tree:
    """`select` without the patterns: what a predicate or a tree (also of labels) says about each leaf."""
    if _is_function(where):
        if arity(where) == 2:
            return map_with_path(lambda path, leaf: None if leaf is None else where(path, leaf), tree)
        where = where(tree)

    def spread(answer: Any, below: Tree) -> Tree:
        return jax.tree.map(lambda _: answer, below, is_leaf=is_none)

    try:
        return jax.tree.map(spread, where, tree, is_leaf=is_none)
    except (ValueError, TypeError) as error:
        named = all(isinstance(answer, str) for answer in jax.tree.leaves(where))
        hint = "patterns stand where the labels do: partition({pattern: transformation})\n" if named else ""
        raise LeafError(f"the tree of masks or labels does not fit the parameters\n{hint}{error}") from error


def _written(pattern: Any) -> str:
    return repr(pattern.pattern if isinstance(pattern, re.Pattern) else pattern)


def _keep(answers: Tree, tree: Tree, wanted: Any) -> Tree:
    """`tree` with None where the answer is not the wanted one."""
    if tree is None:
        return None
    return jax.tree.map(lambda x, answer: x if answer == wanted else None, tree, answers, is_leaf=is_none)


def _booleans(where: Any, tree: Tree) -> Tree:
    def check(path: str, answer: Any) -> Any:
        if answer is not None and not isinstance(answer, (bool, np.bool_)):
            raise LeafError(f"leaf '{path}': a mask holds booleans, got {answer!r}")
        return answer

    return map_with_path(check, select(where, tree))


@transformation
def masked(inner: Transformation, mask: Any) -> Any:
    """Apply a transformation to the chosen leaves; the others pass through unchanged (use `freeze` to hold them).

    Args:
      inner: the transformation.
      mask: which leaves: a pattern ("kernel", "encoder/*/bias", re.compile("norm|bias"); see `gradtx.core.select`), a
        predicate `(path, leaf) -> bool`, a tree of booleans or a function of the parameters that returns one.

    Raises:
      ValueError: a pattern that matches nothing.
      LeafError: a tree of booleans that does not fit the parameters, or does not hold booleans.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    >>> tx = gradtx.masked(gradtx.scale(10.0), "kernel")
    >>> tx.update(params, tx.init(params))[0]
    {'bias': Array([1., 1.], dtype=float32), 'kernel': Array([10., 10.], dtype=float32)}
    """

    body = build(inner)

    def init(params: Tree) -> Tree:
        return initialize(body, _keep(_booleans(mask, params), params, True))

    if isinstance(body, Leafwise) and not body.together:
        return _Masked(body, mask, init)

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        answers = _booleans(mask, updates if params is None else params)
        chosen, state = run(body, _keep(answers, updates, True), state, _keep(answers, params, True), extra_args)
        return _merge(answers, updates, {True: chosen}), state

    return init, update


class _Masked(Leafwise):
    """What is done to the chosen leaves; the others pass through."""

    def __init__(self, inner: Leafwise, mask: Any, init: Callable[[Tree], Tree]):
        self.inner, self.mask, self._init = inner, mask, init
        self.needs_params, self.extra_args, self.required = inner.needs_params, inner.extra_args, inner.required
        self.check, self.numbers, self.count = inner.check, inner.numbers, inner.count  # type: ignore[method-assign]

    def init(self, params: Tree) -> Tree:
        return self._init(params)

    def choices(self, tree: Tree) -> list[Any]:
        answers = jax.tree.leaves(_booleans(self.mask, tree), is_leaf=is_none)
        chosen = _keep(jax.tree.unflatten(jax.tree.structure(tree, is_leaf=is_none), answers), tree, True)
        return [(bool(a), c) for a, c in zip(answers, self.inner.choices(chosen), strict=True)]

    def resolve(self, choice: Any) -> Leafwise:
        chosen, inside = choice
        return self.inner.resolve(inside) if chosen else Leafwise()


def _merge(answers: Tree, updates: Tree, results: Mapping[Any, Tree]) -> Tree:
    """For each leaf, the result that belongs to its answer; the update itself where there is none."""
    structure: Any = jax.tree.structure(updates, is_leaf=is_none)
    flat = {answer: structure.flatten_up_to(result) for answer, result in results.items()}
    columns = zip(structure.flatten_up_to(answers), jax.tree.leaves(updates, is_leaf=is_none), strict=True)
    return structure.unflatten([flat[a][i] if a in flat else u for i, (a, u) in enumerate(columns)])


@transformation
def partition(transforms: Transformations, param_labels: Any = None) -> Any:
    """Different transformations for different leaves.

    Args:
      transforms: label -> transformation. Without `param_labels` the labels are patterns, and each leaf goes to the
        first that matches: `partition({"*/bias": sgd(0.1), "*": adamw(1e-3)})`.
      param_labels: a tree of labels with the structure of the parameters or a prefix of it, a function of the
        parameters that returns one, or a predicate `(path, leaf) -> label`.

    Returns:
      A transformation whose state is a dict, label -> state.

    Raises:
      ValueError: a leaf that no pattern matches or whose label has no transformation; a transformation that gets no
        leaf. The leaf is named.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    >>> tx = gradtx.partition({"bias": gradtx.scale(2.0), "*": gradtx.set_to_zero()})
    >>> tx.update(params, tx.init(params))[0]
    {'bias': Array([2., 2.], dtype=float32), 'kernel': Array([0., 0.], dtype=float32)}
    """
    names = {label: label_name(label) for label in transforms}
    if len(set(names.values())) < len(names):
        raise ValueError(f"partition: two labels have the same name in the state: {', '.join(names.values())}")

    parts = {label: build(tx) for label, tx in transforms.items()}

    def labels_of(params: Tree) -> Tree:
        if param_labels is None:
            labels = map_with_path(lambda path, _: next((p for p in transforms if _matches(p, path)), None), params)
        else:
            labels = _answers(param_labels, params)

        def check(path: str, leaf: Any, label: Any) -> Any:
            if leaf is not None and label not in transforms:
                if param_labels is None:
                    raise ValueError(f"partition: no pattern matches leaf '{path}'; end with '*' for the rest")
                raise ValueError(
                    f"partition: leaf '{path}' has the label {label!r}, which has no transformation; "
                    f"there are {', '.join(map(repr, transforms))}"
                )
            return label

        labels = map_with_path(check, params, labels)
        used = jax.tree.leaves(labels)
        for label in transforms:
            if used and label not in used:  # in a tree without leaves, no label is used
                raise ValueError(f"partition: {_written(label)} gets no leaf; the leaves are {listed(params)}")
        return labels

    def init(params: Tree) -> Tree:
        labels = labels_of(params)
        return {names[label]: initialize(tx, _keep(labels, params, label)) for label, tx in parts.items()}

    def update(updates: Tree, state: Tree, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        labels = labels_of(updates if params is None else params)
        results, states = {}, {}
        for label, tx in parts.items():
            mine, my_params = _keep(labels, updates, label), _keep(labels, params, label)
            results[label], states[names[label]] = run(tx, mine, state[names[label]], my_params, extra_args)
        return _merge(labels, updates, results), states

    return init, update


multi_transform = partition
