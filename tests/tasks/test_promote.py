from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Crashed

from digits.errors import DigitsError
from digits.registry.ledger import all_ledgers
from digits.storage.workspace import Workspace
from tasks.promote import promote


@flow(name="presumed dead")
def presumed_dead(*arguments: Any, **options: Any) -> None:
    """Promote after the server was told that this run has crashed."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, Crashed(message="It slept."), force=True)
    promote(*arguments, **options)


def test_a_run_that_was_called_crashed_takes_no_decision(current: Workspace) -> None:
    with pytest.raises(DigitsError, match=r"has ended this run \(Crashed: It slept\.\)"):
        presumed_dead(None, [], None, rule=None, lineage={}, forms=[])
    assert not list(all_ledgers(current.settings))
