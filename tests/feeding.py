"""Reads feeds by hand: their deliveries, and the messages of their bursts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from spymaster.feeds.feed import Delivery, Feed, RawMessage


def opened(feed: Feed) -> list[Any]:
    """Open every delivery of a feed that ends; an error ends this."""

    async def every() -> list[Any]:
        return [delivery async for delivery in feed.deliveries({})]

    return asyncio.run(every())


def following(deliveries: AsyncIterator[Any]) -> Any:
    """Open the next delivery; None if there is none."""

    async def one() -> Any:
        return await anext(deliveries, None)

    return asyncio.run(one())


async def messages(delivery: Delivery) -> AsyncGenerator[RawMessage]:
    """Yield a delivery's messages, whatever bursts they come in."""
    async with aclosing(delivery.bursts()) as bursts:
        async for burst in bursts:
            for message in burst:
                yield message
