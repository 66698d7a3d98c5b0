# SPDX-License-Identifier: Apache-2.0
"""Run the agent with a node's packages: `python -m benchmarks.node_agent serve --config FILE`.

A node installs four packages.  A developer's environment has more, and structlog imports rich if it
is installed.  So this program makes the import of those packages fail before it imports the agent.
"""

import sys

BASTION_AND_DEVELOPER = ("rich", "pygments", "click", "paramiko", "pytest")

if __name__ == "__main__":
    for name in BASTION_AND_DEVELOPER:
        sys.modules[name] = None  # type: ignore[assignment]  # so importing it fails
    from breakglass.cli.agent import main

    main()
