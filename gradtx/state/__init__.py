"""What a state holds: where its parts are, what they are, and how hyperparameters are read and set.

paths        where things are, and how names are looked up
entries      every leaf of a state, with its role
hyperparams  hyperparameters and counts
"""
