"""Plots of schedules, optimizers and runs. matplotlib (`pip install "gradtx[plot]"`) is needed only to draw one.

    plot_schedule           schedules against the step
    plot_trajectories       paths over a function of one or two variables; animate_trajectories the same, moving
    plot_curves             losses of runs, smoothed, with bands over seeds
    plot_sweep              the final results of runs, against one hyperparameter or two
    plot_lr_range_test      the loss while the learning rate rises
    plot_rates              the effective per-element learning rates, as bands
    plot_metrics            everything that a monitored run measured, in small panels

Each takes `ax`, matplotlib axes of your own figure, and returns the axes that it has drawn in; without `ax` it makes a
figure. Nothing else is touched: titles, limits and styles of those axes are yours to change. The colours can be told
apart with any colour vision, and suit light and dark backgrounds alike.

`trajectories` and `measure_run` return the numbers behind the plots.
"""

from gradtx.plotting.curves import plot_curves, plot_schedule
from gradtx.plotting.metrics import measure_run, plot_metrics, plot_rates
from gradtx.plotting.sweeps import plot_lr_range_test, plot_sweep
from gradtx.plotting.trajectories import animate_trajectories, plot_trajectories, trajectories

__all__ = [
    "animate_trajectories",
    "measure_run",
    "plot_curves",
    "plot_lr_range_test",
    "plot_metrics",
    "plot_rates",
    "plot_schedule",
    "plot_sweep",
    "plot_trajectories",
    "trajectories",
]
