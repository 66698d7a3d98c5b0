# SPDX-License-Identifier: Apache-2.0
"""The hold on a node in a virtual machine: pure cgroup v2, the systemd driver, runc and crun.

`world` is everything that takes part, `acts` what happens, `look` what is counted; `install/` holds
what the guest installs.  `python -m scenarios.guest` plays it.
"""
