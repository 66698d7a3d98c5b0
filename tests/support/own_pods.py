# SPDX-License-Identifier: Apache-2.0
"""The program of a node, on a machine that has other labs: pods below one cgroup are its node's.

    python -m tests.support.own_pods CGROUP VERB --config FILE

A node has one kubelet, so the program may take every pod of the machine for its own; a machine on
which tests run may have others' pods.
"""

import sys

from breakglass.agent.kernel.host import HostGroups
from breakglass.agent.kernel.port import PodGroup
from breakglass.cli.agent import main

_ALL = HostGroups.pod_groups


def _show_only_below(cgroup: str) -> None:
    top = f"{cgroup.strip('/')}/"

    def own(groups: HostGroups) -> tuple[PodGroup, ...]:
        return tuple(group for group in _ALL(groups) if group.path.startswith(top))

    HostGroups.pod_groups = own  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    _show_only_below(sys.argv.pop(1))
    main()
