"""The command line: `python -m gradtx race`, `python -m gradtx list`, `python -m gradtx show adamw`."""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import gradtx
from gradtx.race import catalogue, entrants
from gradtx.race.errors import UsageError
from gradtx.race.run import BATCH_SIZE, EPOCHS, GRID, STEPS, Options, race
from gradtx.test_functions import TEST_FUNCTIONS

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      argv: the arguments, by default those of the process.

    Returns:
      The exit code: 0, or 2 with one line on stderr for a request that cannot be met, or 130 after Ctrl-C.
    """
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
        _COMMANDS[arguments.command](arguments)
    except UsageError as error:
        print(f"gradtx: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gradtx: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `gradtx list | head`
        with contextlib.suppress(Exception):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _race(arguments: argparse.Namespace) -> None:
    chosen = {name: value for name, value in vars(arguments).items() if name != "command" and value is not None}
    race(Options(**chosen))


_COMMANDS: dict[str | None, Callable[[argparse.Namespace], None]] = {
    None: lambda _: _parser().print_help(),
    "race": _race,
    "list": lambda _: print(catalogue.list_text()),
    "show": lambda arguments: print(catalogue.show_text(arguments.name)),
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gradtx", description="Optimizers for JAX that read like their formulas.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"gradtx {gradtx.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="every optimizer, schedule and transformation, with a line on each")
    show = commands.add_parser("show", help="all about one of them: arguments, formula, state, source")
    show.add_argument("name", metavar="NAME", help="for example adamw")
    _add_race(commands)
    return parser


def _add_race(commands: Any) -> None:
    parser = commands.add_parser(
        "race",
        help="train a small network, or descend a test function, with many optimizers side by side",
        description="Train the same small network on scikit-learn's digits with many optimizers, or follow them down "
        "a test function. Prints a table; writes a PNG of the curves and a JSON of the numbers.",
        epilog='Needs pip install "gradtx[race]". Loss is measured on all training images, accuracy on images that '
        "nothing was trained on, both after every epoch. The best rate is the one with the least training loss.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--problem", metavar="NAME", help=f"digits (default), {', '.join(TEST_FUNCTIONS)}")
    add("--optimizers", metavar="A,B,…", type=_names, help=f"default: {','.join(entrants.DEFAULT_RATES)}")
    add(
        "--rates",
        metavar="R,R,…",
        type=_rates,
        help="learning rates; all those of an optimizer run at once, in one compilation. 'default': the usual one of "
        f"each optimizer (digits unless said otherwise); 'grid': {','.join(f'{rate:g}' for rate in GRID)} "
        "(test functions unless said otherwise)",
    )
    add("--epochs", metavar="N", type=_positive_int, help=f"digits: passes over the training images ({EPOCHS})")
    add("--batch-size", metavar="N", type=_batch_size, help=f"digits: images per step, or 'full' ({BATCH_SIZE})")
    add("--steps", metavar="N", type=_positive_int, help=f"test functions: steps to take ({STEPS})")
    add("--seed", metavar="N", type=_seed, help="digits: of the split, the network and the minibatches (0)")
    add("--output", metavar="DIR", type=Path, help="where the PNG and the JSON go (race/)")


# The types of options; argparse puts the option's name before a message


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError("name at least one optimizer")
    return names


def _rates(text: str) -> tuple[float, ...] | str:
    return text if text in ("default", "grid") else tuple(dict.fromkeys(map(_rate, text.split(","))))


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a number, 'default' or 'grid'") from None
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"a learning rate must be greater than 0 and finite, got {text.strip()}")
    return rate


def _positive_int(text: str) -> int:
    return _int(text, at_least=1)


def _seed(text: str) -> int:
    return _int(text, at_least=0, at_most=2**32 - 1)


def _batch_size(text: str) -> int | str:
    return text if text == "full" else _positive_int(text)


def _int(text: str, at_least: int, at_most: int | None = None) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < at_least or (at_most is not None and number > at_most):
        bounds = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise argparse.ArgumentTypeError(f"must be {bounds}, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
