"""What was compiled, counted: kernels, bytes of memory traffic, collectives. It needs no clock and no device.

A program is the text of its optimized HLO. An instruction of the entry computation that computes or copies something is
a kernel. What it moves is what it reads and writes in the device's memory: its distinct operands and its results, all
of each. (What a TPU keeps on the chip, `S(1)` in a layout, is not in memory.) Of a conditional the cheapest branch
counts, of a loop one turn.
"""

import math
import re
from typing import NamedTuple

__all__ = ["Counts", "count"]

# They compute nothing: names, constants, the ends of what runs beside the rest.
FREE = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast|iota|after-all|opt-barrier|(partition|replica)-id|[a-z-]+-done"
)
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
CALLS = {
    "call": r"to_apply=%?([\w.\-]+)",
    "while": r"body=%?([\w.\-]+)",
    "conditional": r"(?:_computation=|branch_computations=\{|, )%([\w.\-]+)(?=[,}\s]|$)",
}


class Counts(NamedTuple):
    """Of one program, or a part of it."""

    kernels: int = 0
    bytes: int = 0
    collectives: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Of both."""
        return Counts(*map(sum, zip(self, other, strict=True)))


class _Instruction(NamedTuple):
    name: str
    bytes: int  # of its results
    operation: str
    operands: tuple[str, ...]
    attributes: str


def count(hlo: str) -> Counts:
    """The counts of a compiled program.

    Args:
      hlo: `jax.jit(f).lower(…).compile().as_text()`.

    Raises:
      ValueError: there is no entry computation in it.
    """
    computations = _computations(hlo)
    if "" not in computations:
        raise ValueError("this is no HLO module: it has no ENTRY computation")
    return _counts(computations, "")


def _counts(computations: dict[str, list[_Instruction]], name: str) -> Counts:
    total = Counts()
    sizes: dict[str, int] = {}
    same: dict[str, str] = {}  # a bitcast reads what it is of
    for instruction in computations[name]:
        _, size, operation, operands, attributes = instruction
        sizes[instruction.name] = size
        if operation in ("bitcast", "opt-barrier") and operands:
            same[instruction.name] = same.get(operands[0], operands[0])
        if operation in CALLS:
            called = [_counts(computations, c) for c in re.findall(CALLS[operation], attributes) if c in computations]
            total = total.plus(min(called, key=lambda counts: counts.bytes))
        elif not FREE.fullmatch(operation):
            # What starts a copy has its operands among its results; a reduction has not.
            repeated = operation.endswith("-start") and operation != "all-reduce-start"
            read = set() if repeated else {same.get(operand, operand) for operand in operands}
            moved = size + sum(sizes.get(operand, 0) for operand in read)
            total = total.plus(Counts(1, moved, operation.startswith(COLLECTIVES)))
    return total


def _computations(hlo: str) -> dict[str, list[_Instruction]]:
    """The instructions of each computation by its name; that of the entry is empty."""
    computations: dict[str, list[_Instruction]] = {}
    current: list[_Instruction] = []
    for line in hlo.splitlines():
        if header := re.match(r"(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$", line):
            current = computations.setdefault("" if header[1] else header[2], [])
        elif found := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z\d\-]*)\((.*)", line):
            inside, _, attributes = found[4].partition(")")
            operands = tuple(re.findall(r"%([\w.\-]+)", inside))
            current.append(_Instruction(found[1], _bytes(found[2]), found[3], operands, attributes))
    return computations


def _bytes(types: str) -> int:
    """Of a type, or a tuple of them, as HLO writes it: `(f32[8,128]{1,0:T(8,128)}, s32[])`."""
    arrays = re.findall(r"\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\](\{[^{}]*\})?", types)
    return sum(
        math.ceil(int(bits or 8) / 8 * math.prod(int(n) for n in shape.split(",") if n))
        for bits, shape, layout in arrays
        if "S(1)" not in layout
    )
