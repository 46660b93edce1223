"""Registers with the server what the project brings: work pool, webhook, automations, deployments.

As often as one likes: what is there already is brought up to date, or left as it is.
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
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists

from digits.settings import ROOT, Settings

PREFECT = str(Path(sys.executable).with_name("prefect"))
AUTOMATIONS = ROOT / "automations.yaml"


async def register(settings: Settings) -> None:
    """Register all of it."""
    async with get_client() as client:
        await register_pool(client)
        await register_automations(client, await register_webhook(settings))
    subprocess.run([PREFECT, "--no-prompt", "deploy", "--all"], cwd=ROOT, check=True)


async def register_pool(client: PrefectClient) -> None:
    """Make the work pool. One that is there may have been limited or paused, and is left so."""
    with contextlib.suppress(ObjectAlreadyExists):
        await client.create_work_pool(WorkPoolCreate(name="digits", type="process"))


async def register_webhook(settings: Settings) -> UUID | None:
    """Keep the webhook's address as a block; the block's id, or None where none is set."""
    if settings.webhook_url is None:
        return None
    block = Webhook(url=settings.webhook_url, headers={"Content-Type": "application/json"})
    return UUID(str(await block.save("digits", overwrite=True)))


async def register_automations(client: PrefectClient, webhook: UUID | None) -> None:
    """Register the automations by their names.

    One that is there as it should be is left alone: changed, it would forget which runs it has
    heard of, and those that died together with the server would stay Running for ever.
    """
    for wanted in described_automations(webhook):
        for there in await client.read_automations_by_name(wanted["name"]):
            # Whether it is switched on is the operator's to say.
            update = AutomationCore.model_validate({**wanted, "enabled": there.enabled})
            if update.model_dump() != there.model_dump(include=set(AutomationCore.model_fields)):
                await client.update_automation(there.id, update)
            break
        else:
            await client.create_automation(AutomationCore.model_validate(wanted))


def described_automations(webhook: UUID | None) -> list[dict[str, Any]]:
    """The automations of automations.yaml, with the block that webhook calls go to."""
    described = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))["automations"]
    return [_with_webhook(one, webhook) for one in described]


def _with_webhook(described: dict[str, Any], webhook: UUID | None) -> dict[str, Any]:
    """An automation whose webhook calls go to the block, or nowhere where there is none."""
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
    asyncio.run(register(Settings()))
