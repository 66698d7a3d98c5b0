# SPDX-License-Identifier: Apache-2.0
"""Run the agent of a simulated node: `python -m lab.sim.agent SOCKET serve --config FILE`.

It differs from `breakglass-agent serve` in one way: it limits and kills the control groups of the
simulated node behind the socket.  That node sends no pod events, so the agent finds new pods by
listing them.
"""

import os
import sys
from pathlib import Path

from breakglass.cli.agent import ONLY_TLS13


def main() -> None:
    """Run the agent until SIGTERM."""
    os.environ["GRPC_SSL_CIPHER_SUITES"] = ONLY_TLS13  # read when gRPC is imported
    from breakglass.agent.assembly import Ports  # noqa: PLC0415
    from breakglass.agent.config import load  # noqa: PLC0415
    from breakglass.agent.daemon import log_as_json, serve  # noqa: PLC0415
    from lab.sim.kernel import SimulatedKernel  # noqa: PLC0415
    from lab.sim.remote import RemoteFiles  # noqa: PLC0415

    files = RemoteFiles(Path(sys.argv[1]))
    log_as_json()
    serve(
        load(Path(sys.argv[4])),
        Ports(kernel=lambda _: SimulatedKernel(files, files.host()).ports()),
    )


if __name__ == "__main__":
    main()
