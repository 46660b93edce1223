"""What runs a flow's steps, by the address that a user names."""

import os
import sys

import pytest
from prefect.task_runners import ThreadPoolTaskRunner

from digits.errors import UsageError
from flows.runners import task_runner

STORE = "s3://bucket/digits"


@pytest.fixture(autouse=True)
def restored_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what the runner sets for Ray, after each test."""
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_COLOR_PREFIX", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_steps_run_in_threads_unless_told_otherwise() -> None:
    assert type(task_runner()) is ThreadPoolTaskRunner
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_ray_reports_to_nobody_and_answers_only_to_who_knows_its_token() -> None:
    runner = task_runner("ray")
    assert type(runner).__name__ == "RayTaskRunner"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_users_own_token_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    task_runner("ray")
    assert os.environ["RAY_AUTH_TOKEN"] == "mine"


def test_a_cluster_is_asked_with_its_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_STORE", STORE)
    task_runner("ray://head:10001")
    assert not os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}


def test_a_cluster_is_told_the_store_but_no_folder_and_no_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIGITS_STORE", STORE)
    monkeypatch.setenv("DIGITS_REDIS_URL", "redis://:hunter2@redis/0")
    runner = task_runner("ray://head:10001")
    assert runner.init_kwargs["runtime_env"]["env_vars"] == {"DIGITS_STORE": STORE}


def test_a_cluster_needs_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIGITS_STORE", raising=False)
    with pytest.raises(UsageError, match="set DIGITS_STORE"):
        task_runner("ray://head:10001")


@pytest.mark.parametrize("address", ["", "ray://", "dask", "ray:head", "tcp://head:1"])
def test_another_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="expected ray, or ray://HOST"):
        task_runner(address)


def test_a_missing_ray_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    with pytest.raises(UsageError, match="make ray"):
        task_runner("ray")
