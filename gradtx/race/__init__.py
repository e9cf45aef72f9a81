"""The optimizers side by side: what `python -m gradtx` runs.

    errors       one-line errors for requests that cannot be met
    entrants     the constructors of the library; default learning rates; memory
    catalogue    the text of `list` and `show`
    loop         one compiled loop per optimizer, over a batch of learning rates
    digits       the race on real images: data, network, measurements
    functions    the race on a test function
    report       the results as tables and as JSON
    plots        the results as plots
    run          `race` itself, from the options to the files it writes

Nothing here is imported by `import gradtx`; scikit-learn, matplotlib and rich are imported only when a race needs them.
"""
