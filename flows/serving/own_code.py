"""Which code this is, so that a machine with other code notices.

Registration writes it into each deployment's version. Results are never stale in any case, since
the code of a step is part of its key; but a fix should not depend on which worker takes a run.
"""

import os
from importlib.metadata import version
from typing import TYPE_CHECKING

from digits.cache.codebase import Codebase
from digits.settings import ROOT

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

PACKAGES = ("digits", "tasks", "flows")
# Set for the runs of `digits worker`. On one machine, code is edited while the service is up.
SETTING = "DIGITS_REQUIRE_REGISTERED_CODE"


def code_identity() -> str:
    """Return the release and the digest of all source files, as of now: 0.1.0+3f2a9c0d4b1e."""
    return f"{version('digits')}+{Codebase(ROOT, PACKAGES).digest_of_all()[:12]}"


def other_code(deployment: "DeploymentResponse") -> str | None:
    """Return how a deployment's code differs from this machine's, or None if it does not."""
    own = code_identity()
    if deployment.version == own:
        return None
    return (
        f"the deployment {deployment.name} is of the code {deployment.version or 'unknown'}, and "
        f"this machine has {own}; install that code here, or call `digits register` with this one"
    )


def requires_registered_code() -> bool:
    """Return whether runs of deployments of other code are refused in this process."""
    return SETTING in os.environ
