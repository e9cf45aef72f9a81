"""The core: what a transformation is, how transformations compose and how they run. It knows no optimizer.

    arguments        the kinds of hyperparameter (a decay, a number of steps, …) and their ranges
    value            a value is a constructor and its arguments: prints, compares, pickles, is a pytree
    constructor      how a constructor is made from a body
    schedule         values that map a step count to a number
    names            what the parts of a composition are called
    tree             leaves: paths, dtypes, None, mismatches
    numerics         squares, roots, norms that neither overflow nor divide by zero
    roles            what the fields of a state are
    build            what a body returns, made ready to run
    lifting          what happens to one leaf, applied to a tree
    leafwise         atoms defined on one leaf
    hyperparameters  scheduled numbers, resolved and recorded
    transformation   values that are (init, update) pairs; extra arguments; eager steps; errors
    combine          chain, product, add and identity
    select           one way to choose leaves; partition, masked

Imports point upwards in this list. What a state holds is read in `gradtx.state`.
"""
