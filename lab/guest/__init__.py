# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as a node: pure cgroup v2, and systemd as its init.

`machine` boots it, `drives` makes its disk images, and `plane` is a Kubernetes control plane
outside it.
"""
