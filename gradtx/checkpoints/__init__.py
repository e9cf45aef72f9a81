"""What outlives a run: optimizers as plain dicts, states migrated to a changed optimizer, states of Optax and torch."""

from gradtx.checkpoints.config import ConfigError, from_config, to_config
from gradtx.checkpoints.from_optax import from_optax_state
from gradtx.checkpoints.from_torch import from_torch_state
from gradtx.checkpoints.migrate import MigrationReport, migrate_state

__all__ = [
    "ConfigError",
    "MigrationReport",
    "from_config",
    "from_optax_state",
    "from_torch_state",
    "migrate_state",
    "to_config",
]
