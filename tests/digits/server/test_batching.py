import asyncio
from itertools import chain
from typing import Any

import numpy as np
import pytest

from digits.server.batching import MAX_IMAGES, Batcher


def images(first: int, number: int) -> Any:
    return np.arange(first, first + number, dtype=np.float32).reshape(number, 1, 1, 1)


def computed(sizes: list[int], calls: list[int]) -> list[list[float]]:
    """The answers to requests that arrive together; each image's answer is twice its pixel."""
    batcher = Batcher(lambda pixels: pixels[:, 0, 0] * 2, calls.append)

    async def ask() -> list[Any]:
        starts = np.cumsum([0, *sizes])
        requests = (
            batcher.compute(images(int(start), size))
            for start, size in zip(starts, sizes, strict=False)
        )
        return await asyncio.gather(*requests)

    return [answer[:, 0].tolist() for answer in asyncio.run(ask())]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1], [1]),
        ([1, 2, 3], [6]),
        ([1] * (MAX_IMAGES + 1), [MAX_IMAGES, 1]),
        ([MAX_IMAGES - 1, 2, 1], [MAX_IMAGES - 1, 3]),
        ([2 * MAX_IMAGES + 1], [MAX_IMAGES, MAX_IMAGES, 1]),
    ],
)
def test_requests_that_arrive_together_share_calls(sizes: list[int], expected: list[int]) -> None:
    calls: list[int] = []
    answers = computed(sizes, calls)
    assert calls == expected
    assert [len(answer) for answer in answers] == sizes
    assert list(chain(*answers)) == [2.0 * number for number in range(sum(sizes))]


def test_small_requests_do_not_wait_for_a_large_one() -> None:
    ended: list[str] = []
    batcher = Batcher(lambda pixels: pixels[:, 0, 0], lambda _: None)

    async def ask(name: str, size: int) -> None:
        await batcher.compute(images(0, size))
        ended.append(name)

    async def ask_both() -> None:
        await asyncio.gather(ask("large", 100 * MAX_IMAGES), ask("small", 1))

    asyncio.run(ask_both())
    assert ended == ["small", "large"]


def test_an_error_reaches_all_who_wait_and_nobody_after() -> None:
    outcomes = iter([ValueError("broken"), None])

    def compute(pixels: Any) -> Any:
        error = next(outcomes)
        if error:
            raise error
        return pixels[:, 0, 0]

    batcher = Batcher(compute, lambda _: None)

    async def ask() -> list[Any]:
        both = [batcher.compute(images(0, 1)) for _ in range(2)]
        failed = await asyncio.gather(*both, return_exceptions=True)
        return [*map(str, failed), len(await batcher.compute(images(0, 1)))]

    assert asyncio.run(ask()) == ["broken", "broken", 1]


def test_whoever_gave_up_does_not_take_the_others_along() -> None:
    batcher = Batcher(lambda pixels: pixels[:, 0, 0], lambda _: None)

    async def ask() -> int:
        gone = asyncio.create_task(batcher.compute(images(0, 1)))
        other = asyncio.create_task(batcher.compute(images(0, 2)))
        await asyncio.sleep(0)
        gone.cancel()
        return len(await other)

    assert asyncio.run(ask()) == 2
