# SPDX-License-Identifier: Apache-2.0
"""The hold on a node in a virtual machine: pure cgroup v2, the systemd driver, runc and crun.

`world` starts everything that takes part, `acts` has the acts, and `look` counts what happened on
the node.  `install/` has the files that the guest installs.  `python -m scenarios.guest` plays it.
"""
