"""The core: what a transformation is and how transformations compose. It knows no optimizer.

    arguments        the kinds of hyperparameter (a decay, a rate, …) and their ranges
    value            a value is a constructor and its arguments: prints, compares, pickles, is a pytree
    tree             leaves: paths, float32 arithmetic, None, overflow-safe norms
    constructor      how a constructor is made of a body
    schedule         values that map a step count to a number
    names            what the parts of a composition are called, and how a name finds one
    hyperparameters  what a state holds of them, and how it is read and set
    stages           what a transformation is made of, seen while its state is initialised
    transformation   values that are (init, update) pairs; scheduled hyperparameters; extra arguments; errors
    combine          chain, product, add and the small ones
    select           one way to choose leaves; partition, masked, freeze

Each module imports only from those above it.
"""
