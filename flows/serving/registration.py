"""Registers the project's work pools, webhook, automations and deployments with the server.

This can be repeated: what already exists is updated or left as it is.
"""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists

from digits.settings import PROJECT, ROOT, Settings
from flows.serving.own_code import code_identity
from flows.serving.pools import POOLS
from flows.serving.proxies import reach_loopback_directly, without_proxies

PREFECT = str(Path(sys.executable).with_name("prefect"))
AUTOMATIONS = PROJECT / "automations.yaml"
# Automations that earlier versions of this project registered.
RETIRED = ("a run has died",)
DEPLOYMENTS = PROJECT / "prefect.yaml"


async def register(settings: Settings) -> None:
    """Register everything."""
    async with get_client() as client:
        await register_pools(client)
        await register_automations(client, await register_webhook(settings))
    deploy = [PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    subprocess.run(deploy, cwd=ROOT, env=without_proxies(), check=True)
    async with get_client() as client:
        await complete_deployments(client)


async def complete_deployments(client: PrefectClient) -> None:
    """Note the code of the deployments, and make the server refuse unknown parameters.

    Prefect's schemas allow parameters that a flow does not have; the run would fail when it starts.
    """
    version = code_identity()
    for name, entrypoint in own_entrypoints().items():
        flow = entrypoint.partition(":")[2]
        deployment = await client.read_deployment_by_name(f"{flow}/{name}")
        schema = {**(deployment.parameter_openapi_schema or {}), "additionalProperties": False}
        changed = DeploymentUpdate(
            version=version, parameter_openapi_schema=schema, enforce_parameter_schema=True
        )
        await client.update_deployment(deployment.id, changed)


def own_entrypoints() -> dict[str, str]:
    """Return the entrypoint of each deployment of this project, by name."""
    described = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))["deployments"]
    return {one["name"]: one["entrypoint"] for one in described}


async def register_pools(client: PrefectClient) -> None:
    """Create the work pools; leave existing ones alone, since they may be limited or paused."""
    for name in POOLS:
        with contextlib.suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name=name, type="process"))


async def register_webhook(settings: Settings) -> UUID | None:
    """Save the webhook's URL as a block; return the block's id, or None if no URL is set."""
    if settings.webhook_url is None:
        return None
    block = Webhook(url=settings.webhook_url, headers={"Content-Type": "application/json"})
    return UUID(str(await block.save("digits", overwrite=True)))


async def register_automations(client: PrefectClient, webhook: UUID | None) -> None:
    """Create the automations, or update those of the same name.

    An automation that has not changed is left alone: an update makes it forget what it has seen.
    """
    for name in RETIRED:
        for there in await client.read_automations_by_name(name):
            await client.delete_automation(there.id)
    for wanted in described_automations(webhook):
        for there in await client.read_automations_by_name(wanted["name"]):
            # The operator decides whether it is enabled.
            update = AutomationCore.model_validate({**wanted, "enabled": there.enabled})
            if update.model_dump() != there.model_dump(include=set(AutomationCore.model_fields)):
                await client.update_automation(there.id, update)
            break
        else:
            await client.create_automation(AutomationCore.model_validate(wanted))


def described_automations(webhook: UUID | None) -> list[dict[str, Any]]:
    """Return the automations of automations.yaml, with the block that webhook calls go to."""
    described = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))["automations"]
    return [_with_webhook(one, webhook) for one in described]


def _with_webhook(described: dict[str, Any], webhook: UUID | None) -> dict[str, Any]:
    """Send an automation's webhook calls to the block, or drop them if there is none."""
    actions = [
        action
        if action["type"] != "call-webhook"
        else {**action, "block_document_id": webhook}
        if webhook
        else {"type": "do-nothing"}
        for action in described["actions"]
    ]
    return {**described, "actions": actions}


if __name__ == "__main__":
    reach_loopback_directly()
    asyncio.run(register(Settings()))
