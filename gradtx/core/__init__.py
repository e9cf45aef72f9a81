"""The core: what a transformation is and how transformations compose. It knows no optimizer.

    arguments        the kinds of hyperparameter (a decay, a rate, …) and their ranges
    value            a value is a constructor and its arguments: prints, compares, pickles, is a pytree
    tree             leaves: paths, float32 arithmetic, None, overflow-safe norms
    schedule         values that map a step count to a number
    hyperparameters  what a state records of them, and how it is read
    transformation   values that are (init, update) pairs; scheduled hyperparameters; extra arguments; errors
    combine          chain, product, add and the small ones
    select           one way to choose leaves; partition, masked, freeze

Each module imports only from those above it.
"""
