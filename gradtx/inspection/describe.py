"""A table of an optimizer's parts and their memory cost for a model: in the terminal, with rich, in Jupyter."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from gradtx.core.build import is_transformation
from gradtx.core.names import name_of
from gradtx.core.schedule import Schedule
from gradtx.core.transformation import GradientTransformation
from gradtx.core.tree import check_arrays, path_string
from gradtx.core.typing import InitAndUpdate
from gradtx.core.value import same, show
from gradtx.inspection.tables import html_table, text_table
from gradtx.state.entries import entries, statistic_of
from gradtx.state.paths import by_path
from gradtx.state.stages import Stage, stages

__all__ = ["Description", "describe"]

Tree = Any

HEADERS = ("stage", "hyperparameters", "leaves", "keeps", "dtype", "state", "bytes/param")


class Row(NamedTuple):
    """One stage of the table."""

    name: str  # of the constructor, after its label or given name if it has one
    branch: str  # the lines that draw the tree in front of the name
    path: tuple[str, ...]  # of its state within the whole state
    hyperparameters: dict[str, str]  # name -> value as text; an expanded formula leaves them to its parts
    leaves: tuple[str, ...]  # paths of the parameters that it sees
    chosen: bool  # whether these are only some of those that the enclosing stage sees
    num_params: int
    state_bytes: int  # including its parts
    keeps: tuple[str, ...]  # the statistics of the parameters in its state, unless its parts show them
    dtypes: tuple[str, ...]  # of these statistics


@dataclasses.dataclass(frozen=True)
class Description:
    """The table that `describe` returns. It prints as text; its rows and totals are attributes."""

    rows: tuple[Row, ...]
    num_leaves: int
    num_params: int
    param_bytes: int

    @property
    def state_bytes(self) -> int:
        """The size of the whole state."""
        return self.rows[0].state_bytes

    def __str__(self) -> str:
        return text_table([HEADERS, *map(self._cells, self.rows)], self._total())

    __repr__ = __str__

    def __rich__(self) -> Any:
        """The table for `rich.print`, with the details of a stage in one column, so that 80 characters are enough."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=self._total(), caption_justify="left")
        for header in ("stage", "hyperparameters, leaves, what it keeps", "state", "bytes/param"):
            table.add_column(header, no_wrap="," not in header, overflow="fold")
        for row in self.rows:
            stage, numbers, leaves, keeps, dtypes, state, each = self._cells(row)
            kept = f"{keeps}: {dtypes}" if keeps else ""
            table.add_row(stage, "\n".join(filter(None, (numbers, leaves, kept))), state, each)
        return table

    def _repr_html_(self) -> str:
        return html_table([HEADERS, *map(self._cells, self.rows)], self._total())

    def _cells(self, row: Row) -> tuple[str, ...]:
        numbers = ", ".join(f"{name}={value}" for name, value in row.hyperparameters.items())
        part = ""
        if row.chosen:
            part = (
                f"{len(row.leaves)} of {self.num_leaves}: " + ", ".join(row.leaves[:3]) + ", …" * (len(row.leaves) > 3)
            )
        state = _bytes(row.state_bytes) if row.state_bytes else ""
        per_param = row.state_bytes / max(row.num_params, 1)
        each = f"{per_param:.3g}" if per_param >= 0.01 else ""
        return row.branch + row.name, numbers, part, ", ".join(row.keeps), ", ".join(row.dtypes), state, each

    def _total(self) -> str:
        each = f", {self.state_bytes / self.num_params:.3g} bytes per parameter" if self.num_params else ""
        return (
            f"{self.num_leaves:,} leaves, {self.num_params:,} parameters, {_bytes(self.param_bytes)}; "
            f"state {_bytes(self.state_bytes)}{each}"
        )


def describe(tx: InitAndUpdate, params: Tree, *, depth: int = 1) -> Description:
    """The stages of a transformation with their hyperparameters, the leaves that they see and the state that they keep.

    Args:
      tx: the transformation; one from Optax is a stage without parts.
      params: a pytree of arrays, or of `jax.ShapeDtypeStruct` for a model that does not fit in memory: nothing is
        computed.
      depth: how many levels of nested formulas to expand: 0 shows `adamw` as one stage, 1 its parts, 2 the parts of
        `scale_by_adam`, and so on. Compositions (chains, partitions, wrappers) are always expanded.

    Returns:
      A `Description`: it prints as a text table, in Jupyter as HTML, with `rich.print` as a rich table.

    Raises:
      LeafError: a leaf of `params` is not an array.
      TypeError: `tx` is not a transformation.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> shapes = {"kernel": jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)}
    >>> print(gradtx.describe(gradtx.adamw(1e-3), shapes))
    stage                      hyperparameters              keeps          dtype    state      bytes/param
    ──────────────────────────────────────────────────────────────────────────────────────────────────────
    adamw                                                                           128.0 MiB  8
    ├─ scale_by_adam           b1=0.9, b2=0.999, eps=1e-08  momentum, ema  float32  128.0 MiB  8
    ├─ add_decayed_weights     weight_decay=0.0001
    └─ scale_by_learning_rate  learning_rate=0.001                                  8 B
    ──────────────────────────────────────────────────────────────────────────────────────────────────────
    1 leaves, 16,777,216 parameters, 32.0 MiB; state 128.0 MiB, 8 bytes per parameter
    """
    if not is_transformation(tx):
        raise TypeError(f"describe: {tx!r} is not a transformation; it has no init and update")
    check_arrays(params)
    root = stages(tx, params)
    leaves = jax.tree.leaves(root.params)
    return Description(
        rows=tuple(_rows(root, depth)),
        num_leaves=len(leaves),
        num_params=sum(x.size for x in leaves),
        param_bytes=_size(leaves),
    )


def _rows(stage: Stage, depth: int, around: Stage | None = None, above: str = "", last: bool = True) -> Iterator[Row]:
    """The rows of a stage and of its expanded parts."""
    tx = stage.tx
    formula = isinstance(tx, GradientTransformation) and tx.formula is not tx and not _held(tx)
    parts = stage.parts if not formula or depth > 0 else []
    own = _statistics(stage, parts)
    seen = _paths(stage)
    yield Row(
        name=_name(stage, around),
        branch=above + ("" if around is None else "└─ " if last else "├─ "),
        path=stage.path,
        hyperparameters=_hyperparameters(tx, opened=formula and bool(parts)),
        leaves=seen,
        chosen=around is not None and seen != _paths(around),
        num_params=sum(x.size for x in jax.tree.leaves(stage.params)),
        state_bytes=_size(jax.tree.leaves(stage.state)),
        keeps=tuple(own),
        dtypes=tuple(sorted({name for names in own.values() for name in names})),
    )
    below = above + ("" if around is None else "   " if last else "│  ")
    for part in parts:
        yield from _rows(part, depth - formula, stage, below, part is parts[-1])


def _statistics(stage: Stage, parts: list[Stage]) -> dict[str, set[str]]:
    """The statistics of the parameters that a stage keeps itself, outside its parts: name -> dtypes."""
    of_params = set(by_path(stage.params))
    kept: dict[str, set[str]] = {}
    for entry in entries(stage.state):
        inside = any((*stage.path, *entry.path)[: len(part.path)] == part.path for part in parts)
        _, (field, *parameter) = statistic_of(entry, of_params)
        of_leaves = entry.role.of_leaves if entry.role else parameter or (entry.value.ndim and () in of_params)
        if not inside and of_leaves:
            kept.setdefault(field, set()).add(entry.value.dtype.name)
    return kept


def _held(tx: GradientTransformation) -> bool:
    """Whether a transformation has others among its arguments."""
    leaves = jax.tree.leaves(list(tx.arguments.values()), is_leaf=is_transformation)
    return any(map(is_transformation, leaves))


def _paths(stage: Stage) -> tuple[str, ...]:
    return tuple(path_string(path) for path, _ in jax.tree_util.tree_flatten_with_path(stage.params)[0])


def _name(stage: Stage, around: Stage | None) -> str:
    """The constructor's name, preceded by the label or the name that the stage was given."""
    name = name_of(stage.tx)
    label = "/".join(stage.path[len(around.path) :]) if around else ""
    return name if label in ("", "inner_state") or label.startswith(name) else f"{label}: {name}"


def _hyperparameters(tx: Any, opened: bool) -> dict[str, str]:
    """The arguments worth showing: numbers, unless the parts show them, and whatever differs from its default."""
    if not isinstance(tx, GradientTransformation):
        return {}
    parameters = tx.constructor.signature.parameters
    kinds = tx.constructor.kinds
    shown = {}
    for name, argument in tx.arguments.items():
        default = parameters[name].default
        if any(map(is_transformation, jax.tree.leaves(argument, is_leaf=is_transformation))) or (
            isinstance(argument, (tuple, dict)) and not argument
        ):
            continue
        number = isinstance(argument, float) and argument != 0
        if not (opened and name in kinds) and (number or not same(argument, default)):
            shown[name] = f"{argument:g}" if number else _short(argument)
    return shown


def _short(argument: Any, limit: int = 60) -> str:
    text = " ".join(show(argument).split())
    if len(text) > limit:
        return f"{argument.name}(…)" if isinstance(argument, Schedule) else text[: limit - 1] + "…"
    return text


def _size(leaves: list[Any]) -> int:
    return sum(x.size * x.dtype.itemsize for x in leaves)


def _bytes(size: float) -> str:
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"
