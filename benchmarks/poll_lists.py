# SPDX-License-Identifier: Apache-2.0
"""Fetch both lists of a runtime four times a second: `python -m benchmarks.poll_lists SOCKET`.

It uses the agent's own client, so that the ratio shows what a hold adds to plain polling.
"""

import asyncio
import sys
from pathlib import Path

from breakglass.agent.runtime.cri import CriRuntime

EVERY_S = 0.25


async def _main(socket: Path) -> None:
    runtime = CriRuntime(socket)
    await runtime.pods()
    print("ready", flush=True)
    while True:
        await runtime.pods()
        await asyncio.sleep(EVERY_S)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
