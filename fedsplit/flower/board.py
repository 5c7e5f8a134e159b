"""Where errands tell how far they are. Imports nothing that computes, so that its process starts at once."""

import asyncio

from fedsplit.flower.simulation import Progress


class Board:
    """Where tasks write how far they are, and the driver waits for news; becomes a Ray actor."""

    def __init__(self) -> None:
        self._news: asyncio.Queue[Progress | None] = asyncio.Queue()

    async def tell(self, progress: Progress | None) -> None:
        """From any task; None, from the driver: there will be no more."""
        await self._news.put(progress)

    async def next(self) -> Progress | None:
        """Waits."""
        return await self._news.get()
