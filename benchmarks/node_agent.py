# SPDX-License-Identifier: Apache-2.0
"""The agent as a node has it: `python -m benchmarks.node_agent serve --config FILE`.

A node installs four packages; a developer's environment has more, and structlog takes rich along
where it finds it.  What a node does not have is made unfindable here before the agent is imported.
"""

import sys

BASTION_AND_DEVELOPER = ("rich", "pygments", "click", "paramiko", "pytest")

if __name__ == "__main__":
    for name in BASTION_AND_DEVELOPER:
        sys.modules[name] = None  # type: ignore[assignment]  # so importing it fails
    from breakglass.cli.agent import main

    main()
