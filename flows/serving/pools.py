"""The work pools, and the name of the worker of `digits up`."""

from typing import Literal, get_args

# Of machines without and with a GPU. `digits up` works for the first.
PoolName = Literal["digits", "digits-gpu"]
POOLS: tuple[PoolName, ...] = get_args(PoolName)
POOL = POOLS[0]
LOCAL_WORKER = "local"
