"""The work pools, and the name of the worker of `digits up`."""

# Of machines without and with a GPU. `digits up` works for the first.
POOLS = ("digits", "digits-gpu")
POOL = POOLS[0]
LOCAL_WORKER = "local"
