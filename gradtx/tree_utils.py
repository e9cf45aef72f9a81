"""`gradtx.tree` under the names of Optax's `optax.tree_utils`: `tree_add` is `gradtx.tree.add`.

>>> import gradtx
>>> gradtx.tree_utils.tree_add(1.0, 2.0)
3.0
"""

import functools
from typing import Any

from gradtx import tree
from gradtx.tree import NamedTupleKey

tree_add_scalar_mul = tree.add_scale  # this and the next four are older names in Optax
tree_scalar_mul = tree.scale
tree_l1_norm = functools.partial(tree.norm, ord=1)
tree_l2_norm = functools.partial(tree.norm, ord=2)
tree_linf_norm = functools.partial(tree.norm, ord="inf")

_SAME = {f"tree_{name}": getattr(tree, name) for name in tree.__all__ if name != "NamedTupleKey" and "safe" not in name}

__all__ = ["NamedTupleKey", *_SAME]


def __getattr__(name: str) -> Any:
    if name in _SAME:
        return _SAME[name]
    raise AttributeError(f"gradtx.tree_utils has no {name!r}; it has {', '.join(__all__)}")
