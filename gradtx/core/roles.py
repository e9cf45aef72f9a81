"""What the fields of a state are, declared once, together with the state.

    class MomentumState(NamedTuple):
        momentum: Slot

    class BiasCorrectionState(NamedTuple):
        weight: Weight

Code that reads states (the leaf-wise engine, migration, states of other libraries, `describe`, `map_params`) reads
roles; none of it keeps lists of names or guesses by shape. A field without a role comes from another library, or from
an author who did not declare one.
"""

import enum
import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias, get_args, get_type_hints

__all__ = [
    "Count",
    "EmptyState",
    "Factored",
    "Hyperparameter",
    "Inner",
    "Number",
    "RandomKey",
    "Role",
    "Slot",
    "Weight",
    "is_state",
    "map_fields",
    "of_class",
]


class Role(enum.Enum):
    """What a field of a state is."""

    SLOT = "a tree like the parameters: an average, a sum, a point"
    FACTORED = "a tree with something for each parameter in another shape: rows and columns, one number"
    WEIGHT = "what a statistic has seen, one number for all leaves (or for each): it starts when the statistic starts"
    COUNT = "steps of the run, which schedules are looked up at"
    HYPERPARAMETER = "numbers of the transformation by name, as the last step used them"
    KEY = "a random key"
    NUMBER = "a number (or several) of the run as a whole: an estimate, a measurement"
    INNER = "the state of a transformation inside, or several"

    @property
    def of_leaves(self) -> bool:
        """Whether there is one value for each parameter."""
        return self in (Role.SLOT, Role.FACTORED)


class EmptyState(NamedTuple):
    """The state of a transformation that keeps nothing."""


Slot: TypeAlias = Annotated[Any, Role.SLOT]
Factored: TypeAlias = Annotated[Any, Role.FACTORED]
Weight: TypeAlias = Annotated[Any, Role.WEIGHT]
Count: TypeAlias = Annotated[Any, Role.COUNT]
Hyperparameter: TypeAlias = Annotated[Any, Role.HYPERPARAMETER]
RandomKey: TypeAlias = Annotated[Any, Role.KEY]
Number: TypeAlias = Annotated[Any, Role.NUMBER]
Inner: TypeAlias = Annotated[Any, Role.INNER]


@functools.cache
def of_class(cls: Any) -> dict[str, Role]:
    """The roles that the fields of a named tuple declare; a field that declares none is left out."""
    if not (issubclass(cls, tuple) and hasattr(cls, "_fields")):
        return {}
    hints = cls.__annotations__
    if any(isinstance(hint, str) for hint in hints.values()):
        hints = get_type_hints(cls, include_extras=True)
    roles = {name: next((x for x in get_args(hint) if isinstance(x, Role)), None) for name, hint in hints.items()}
    return {name: role for name, role in roles.items() if role}


def is_state(x: Any) -> bool:
    """Whether this is a state all of whose fields declare a role."""
    return len(of_class(x.__class__)) == len(getattr(x, "_fields", ())) and hasattr(x, "_fields")


def map_fields(f: Callable[[Role, Any], Any], state: Any, inside: Callable[[Any], Any] | None = None) -> Any:
    """The state with `f(role, value)` for every field, also of the states inside, or `inside` of those."""
    roles = of_class(state.__class__)
    fields = zip(roles.values(), state, strict=True)
    inside = inside or functools.partial(map_fields, f)
    return type(state)(*(inside(x) if role is Role.INNER else f(role, x) for role, x in fields))
