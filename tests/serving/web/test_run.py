"""How the service listens."""

from __future__ import annotations

import asyncio
import socket

from serving.web.run import listen


def test_answers_do_not_wait_for_company() -> None:
    """Nagle's algorithm would hold the second packet of an answer back until the first is acknowledged, 40 ms later."""

    async def accepted() -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            told.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = listen("127.0.0.1", 0)
        async with await asyncio.start_server(greet, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            found = await told
            writer.close()
        return found

    assert asyncio.run(accepted())
