"""The results as a Markdown report and a picture."""

from collections.abc import Iterator
from typing import Any

from benchmarks.limits import checks, compile_ratio, least_bytes, seconds, step_ratio

__all__ = ["columns", "markdown", "picture"]

Record = dict[str, Any]

HERE = (
    "A step is `update` and `apply_updates` in one compiled function, parameters and state donated; the median of "
    "{rounds} rounds in which the libraries take turns. Ratios are gradtx / Optax: below 1 is faster, smaller. Of "
    "bandwidth: the bytes that the algorithm must move (gradients read, parameters and state read and written) over "
    "the time, over what the machine streams. Compile: trace + lower + compile. Temporaries: bytes over those of the "
    "parameters. torch: fused / foreach, in its own process."
)
ELSEWHERE = (
    "The same steps, compiled for a device that was not there, and counted in what XLA made: kernels (instructions of "
    "the program that compute or copy), bytes of memory traffic per parameter (operands and results of these; what a "
    "TPU keeps on the chip is none), temporaries over the parameters, collectives. Least: gradients read, parameters "
    "and state read and written once, and what must be read again because a norm of it has to be known first. As "
    "arguments: the kernels where the optimizer's numbers are arguments of the step, as in `make_step`. On 4 devices "
    "leaves are sharded along their first axis, and figures are those of one device."
)


def columns(row: Record, bandwidth: float) -> dict[str, str]:
    """One line of a table, as text."""
    ours, theirs = row["gradtx"], row["optax"]
    torch = row.get("torch", {})
    return {
        "step, ms": f"{1e3 * ours['step_s']:.3g}",
        "Optax": f"{1e3 * theirs['step_s']:.3g}",
        "torch": " / ".join(f"{1e3 * torch[form]:.3g}" for form in ("fused", "foreach") if form in torch),
        "ratio": f"{step_ratio(row):.2f}",
        "of bandwidth": f"{ours['moved_bytes'] / ours['step_s'] / bandwidth:.0%}",
        "compile, s": f"{seconds(ours):.2f}",
        "its ratio": f"{compile_ratio(row):.2f}",
        "temporaries": f"{ours['temporary_bytes'] / row['param_bytes']:.1%}",
        "Optax's": f"{theirs['temporary_bytes'] / row['param_bytes']:.1%}",
        "equations": f"{ours['equations']:,}",
        "of Optax": f"{theirs['equations']:,}",
        "state bytes": f"{ours['state_bytes']:,}",
    }


def _counted(case: str, row: Record) -> dict[str, str]:
    """One line of the table of a device that is not here."""
    ours, theirs, size = row["gradtx"], row["optax"], row["param_bytes"]
    return {
        "kernels": f"{ours['kernels']:,}",
        "Optax": f"{theirs['kernels']:,}",
        "as arguments": f"{row['make_step']['kernels']:,}" if "make_step" in row else "",
        "bytes": f"{4 * ours['traffic_bytes'] / size:.2f}",
        "of Optax": f"{4 * theirs['traffic_bytes'] / size:.2f}",
        "least": f"{4 * least_bytes(case, row) / size:.2f}",
        "temporaries": f"{ours['temporary_bytes'] / size:.1%}",
        "Optax's": f"{theirs['temporary_bytes'] / size:.1%}",
        "collectives": f"{ours['collectives']:,} / {theirs['collectives']:,}",
        "compile, s": f"{seconds(ours):.2f}",
        "its ratio": f"{compile_ratio(row):.2f}",
    }


def markdown(results: Record, picture_name: str) -> str:
    """The report.

    Args:
      results: as the JSON file has them.
      picture_name: of the file beside the report.
    """
    lines = ["# gradtx beside its peers", ""]
    if results.get("trees"):
        lines += [f"`{results['command']}`, {results['date']}.", ""]
        lines += [f"- {name}: {value}" for name, value in results["machine"].items()]
        streams = f"{results['bandwidth'] / 1e9:.1f} GB/s (x + y in place of x, 64 M float32, measured in this run)"
        lines += [f"- streams {streams}", "", HERE.format(rounds=results["rounds"]), ""]
        lines += [f"![Step times and compile times beside Optax's]({picture_name})", ""]
    for tree, rows in results.get("trees", {}).items():
        named = {case: columns(row, results["bandwidth"]) for case, row in rows.items()}
        lines += [f"## {tree}", "", *_table(named), ""]
    if overhead := results.get("overhead"):
        lines += ["## Beside the steps", "", "Milliseconds. Closed: the optimizer is a constant of the step.", ""]
        for where, rows in overhead.items():
            named = {c: {form: f"{1e3 * s:.3g}" for form, s in row.items()} for c, row in rows.items()}
            lines += [f"### {where}", "", *_table(named), ""]
    for target, found in results.get("targets", {}).items():
        lines += [f"## {target}", "", f"`{found['command']}`, {found['date']}. {ELSEWHERE}", ""]
        for tree, rows in found["trees"].items():
            if rows:
                lines += [f"### {target}, {tree}", "", *_table({c: _counted(c, row) for c, row in rows.items()}), ""]
    return "\n".join([*lines, *_asked(results)]) + "\n"


def _asked(results: Record) -> Iterator[str]:
    """The section on what is asked of the measurements; cases with one verdict are one line."""
    yield from ("## Targets", "", _line(["where", "what", "at most", "met", "missed"]), _line(["---"] * 5))
    verdicts: dict[Any, dict[str, list[str]]] = {}
    missed: dict[str, list[str]] = {}
    for check in checks(results):
        row = verdicts.setdefault((check.where, check.what, f"{check.most:g}"), {"met": [], "missed": []})
        row["missed" if check.verdict == "missed" else "met"].append(f"{check.case} {check.measured:.3g}")
        if check.verdict == "missed":
            missed.setdefault(check.why, []).append(f"{check.case}, {check.what}, {check.where}")
    for what, row in verdicts.items():
        yield _line([*what, *("; ".join(row[verdict]) for verdict in ("met", "missed"))])
    if missed:
        yield from ("", "## Missed, and why", "")
        yield from (f"- **{'; '.join(cases)}**: {reason}." for reason, cases in missed.items())


def _table(rows: dict[str, dict[str, str]]) -> list[str]:
    header = ["", *next(iter(rows.values()))]
    return [_line(header), _line(["---"] * len(header)), *(_line([name, *row.values()]) for name, row in rows.items())]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def picture(results: Record, path: str) -> None:
    """A dot per case and tree: the ratio of step times, and that of compile times, on a logarithmic axis.

    Args:
      results: as the JSON file has them.
      path: of the PNG file.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    trees = {tree: rows for tree, rows in results["trees"].items() if rows}
    cases = list(dict.fromkeys(case for rows in trees.values() for case in rows))[::-1]
    colors = ["#0072B2", "#E69F00", "#009E73", "#CC79A7"]  # Okabe & Ito: told apart by everybody
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.32 * len(cases) + 1.6), sharey=True, layout="constrained")
    for ax, measure, title in zip(axes, (step_ratio, compile_ratio), ("step", "trace + lower + compile"), strict=True):
        for (tree, rows), color, marker in zip(trees.items(), colors, "os^D", strict=False):
            values = [(measure(row), cases.index(case)) for case, row in rows.items()]
            ax.scatter(*zip(*values, strict=True), color=color, marker=marker, s=34, label=tree, zorder=3)
        ax.axvline(1.0, color="0.4", lw=1)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}×")
        ax.grid(axis="y", color="0.9")
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.set_title(f"{title}: time over Optax's", loc="left", fontsize=10)
    axes[0].set_yticks(range(len(cases)), cases)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
