# SPDX-License-Identifier: Apache-2.0
"""A bastion and running nodes: each node is an agent process over a simulated runtime.

The bastion reaches the agents over mTLS on loopback.
"""

from scenarios.loopback import Nodes


class Night(Nodes):
    """A bastion with three people, and running nodes."""

    def approved(self, *extra: str) -> str:
        """Return a command file that two people have approved."""
        return self.bastion.signed("cmd", "--grace", "1s", *extra)
