# SPDX-License-Identifier: Apache-2.0
"""A night at the bastion: nodes that really answer, each an agent over a simulated runtime.

The agents are processes reached over mTLS on loopback.
"""

from scenarios.loopback import Nodes


class Night(Nodes):
    """A bastion with three people, and nodes that really answer."""

    def approved(self, *extra: str) -> str:
        """Return a file that two people approved."""
        return self.bastion.signed("cmd", "--grace", "1s", *extra)
