# SPDX-License-Identifier: Apache-2.0
"""Run `breakglass-agent serve` on a kernel that offers no limits, to measure the watch alone."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from breakglass.cli.agent import ONLY_TLS13


def main() -> None:
    """Run the agent until SIGTERM."""
    os.environ["GRPC_SSL_CIPHER_SUITES"] = ONLY_TLS13  # read when gRPC is imported
    from breakglass.agent.assembly import Ports  # noqa: PLC0415
    from breakglass.agent.config import load  # noqa: PLC0415
    from breakglass.agent.daemon import log_as_json, serve  # noqa: PLC0415
    from breakglass.agent.kernel.host import host_kernel  # noqa: PLC0415
    from breakglass.agent.kernel.limits import HostLimits  # noqa: PLC0415
    from breakglass.agent.kernel.port import Kernel, PodGroup  # noqa: PLC0415
    from breakglass.agent.kernel.systemd import Systemctl  # noqa: PLC0415
    from breakglass.core.gates import Limit, Oci  # noqa: PLC0415

    class NoLimits(HostLimits):
        """Offers no limit, as on a node whose pods are virtual machines."""

        def current(self, group: PodGroup, oci: Oci, *, early: bool = False) -> tuple[Limit, ...]:
            del group, oci, early
            return ()

    def kernel(_: Path) -> Kernel:
        return replace(host_kernel(), limits=NoLimits(Systemctl()))

    log_as_json()
    serve(load(Path(sys.argv[-1])), Ports(kernel=kernel))


if __name__ == "__main__":
    main()
