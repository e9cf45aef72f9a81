"""One-line errors for requests that cannot be met."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator

__all__ = ["UsageError", "needs_extra", "unknown"]


class UsageError(Exception):
    """A request that cannot be met; its message is one line for the user."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the names that are similar, or else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
    return UsageError(f"unknown {kind} {name!r}; {hint}")


@contextlib.contextmanager
def needs_extra() -> Iterator[None]:
    """When an import inside fails, say how to install what is missing.

    Raises:
      UsageError: scikit-learn, matplotlib or rich is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in ("sklearn", "matplotlib", "rich"):
            raise
        install = 'pip install "gradtx[race]", or ".[race]" in a clone'
        raise UsageError(f"the race needs {package}, which is not installed: {install}") from None
