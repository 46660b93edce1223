"""prefect.yaml and automations.yaml, as Prefect reads them."""

from importlib import import_module
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema

from digits.recipes import RECIPES
from digits.settings import ROOT, Settings
from digits.spec import available_datasets
from flows.parameters import MODELS
from flows.serving.registration import described_automations
from tasks.events import ADDITIONS, DECISIONS, VALIDATION_FAILED

DESCRIBED = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {one["name"]: one for one in DESCRIBED["deployments"]}


def flow_of(name: str) -> Flow[..., Any]:
    """Return the flow of a deployment."""
    path, function = DEPLOYMENTS[name]["entrypoint"].split(":")
    flow: Flow[..., Any] = getattr(
        import_module(path.removesuffix(".py").replace("/", ".")), function
    )
    return flow


def parameters(name: str) -> dict[str, Any]:
    """Return the fields of a deployment's run form."""
    properties: dict[str, Any] = parameter_schema(flow_of(name)).model_dump_for_openapi()[
        "properties"
    ]
    return properties


def test_prefect_accepts_the_deployments() -> None:
    PrefectYamlModel.model_validate(DESCRIBED)
    assert {"retrain", "rollback", "gc", "predict", "sweep"} <= DEPLOYMENTS.keys()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_flow_file_and_deployment_share_a_name(name: str) -> None:
    flow = name.removesuffix("-gpu")  # the same for another kind of machine
    assert DEPLOYMENTS[name]["entrypoint"] == f"flows/{flow}.py:{flow}"
    assert flow_of(name).name == flow


# Sweeps run one at a time for each of their own names, which the flow sees to; the models of a run
# are trained side by side.
@pytest.mark.parametrize("name", sorted(DEPLOYMENTS.keys() - {"sweep", "train", "train-gpu"}))
def test_a_deployment_runs_one_at_a_time(name: str) -> None:
    limit = DEPLOYMENTS[name]["concurrency_limit"]
    assert (limit["limit"], limit["collision_strategy"]) == (1, "CANCEL_NEW")


def test_retrain_is_nightly_and_garbage_is_collected_weekly() -> None:
    for name, runs_a_week in (("retrain", 7), ("gc", 1)):
        (schedule,) = DEPLOYMENTS[name]["schedules"]
        ZoneInfo(schedule["timezone"])
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        *_, weekday = schedule["cron"].split()
        assert (weekday == "*") == (runs_a_week == 7)
    assert "schedules" not in DEPLOYMENTS["rollback"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_parameter_of_a_run_form_has_a_description(name: str) -> None:
    assert all(field["description"] for field in parameters(name).values())


# flows.parameters finds the choices at import: here, before any test has a workspace.
def test_the_run_form_offers_existing_choices_and_bounds() -> None:
    form = parameters("retrain")
    assert form["dataset"]["enum"] == list(available_datasets(Settings()))
    assert form["dataset"]["default"] == "mnist"
    assert form["models"]["items"]["enum"] == list(MODELS) == ["mlp", "cnn"]
    assert (form["models"]["minItems"], form["models"]["uniqueItems"]) == (1, True)
    assert form["recipe"]["enum"] == list(RECIPES)
    assert form["device"]["enum"] == ["auto", "cpu", "gpu"]
    assert form["epochs"]["anyOf"][0] == {"type": "integer", "minimum": 1}
    assert (form["seed"]["minimum"], form["seed"]["exclusiveMaximum"]) == (0, 2**31)


@pytest.mark.parametrize("webhook", [None, uuid4()])
def test_prefect_accepts_the_automations(webhook: Any) -> None:
    automations = [AutomationCore.model_validate(one) for one in described_automations(webhook)]
    told = next(one for one in automations if one.name == "tell the operator")
    assert told.actions[0].type == ("call-webhook" if webhook else "do-nothing")
    assert getattr(told.actions[0], "block_document_id", None) == webhook


def test_the_operator_is_told_of_all_events_but_unchanged_champions() -> None:
    told = next(one for one in described_automations(None) if one["name"] == "tell the operator")
    ours = {name for name in told["trigger"]["expect"] if not name.startswith("prefect.")}
    assert ours == {*DECISIONS.values(), *ADDITIONS.values(), VALIDATION_FAILED} - {
        "champion.unchanged"
    }
