"""The optimizers side by side: what `python -m gradtx` runs.

    errors       what a user asked for and cannot have, in one line
    registry     every optimizer of the library, found by looking; default rates; memory
    catalogue    the text of `list` and `show`
    training     one compiled loop per optimizer, over a batch of rates
    digits       the race on real images: data, network, measurements
    functions    the race on a test function
    tables       the results as tables and as JSON
    plots        the results as pictures

Nothing here is imported by `import gradtx`, and scikit-learn, matplotlib and rich only when a race needs them.
"""
