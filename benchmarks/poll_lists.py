# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.poll_lists SOCKET`: both lists of a runtime, four times a second, for ever.

The agent's own client is used, so that the ratio says what holding adds to looking.
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
