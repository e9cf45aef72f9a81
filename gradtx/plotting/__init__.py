"""Pictures of how optimizers move. They need matplotlib (`pip install "gradtx[plot]"`), and only when one is drawn.

    plot_schedule           schedules against the step
    plot_trajectories       paths over a function of one or two variables; animate_trajectories the same, moving
    plot_curves             losses of runs, smoothed, with bands over seeds
    plot_sweep              what runs ended at, against one hyperparameter or two
    plot_lr_range_test      the loss while the learning rate rises
    plot_rates              the effective learning rates of the elements, as bands
    plot_metrics            everything that a monitored run measured, in small panels

Each takes `ax`, matplotlib axes of a figure of yours, and returns the axes that it has drawn in; without `ax` it makes
a figure. Nothing else is touched: titles, limits and styles of those axes are yours to change. The colours can be told
apart with any colour vision, and suit a light and a dark ground alike.

`trajectories` and `measure_run` give the numbers behind the pictures.
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
