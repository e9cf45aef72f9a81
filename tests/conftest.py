"""Settings for the whole suite."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
