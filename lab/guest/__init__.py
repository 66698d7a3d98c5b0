# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as a node: pure cgroup v2, and systemd as its init.

`machine` boots it and `drives` makes what it boots from; `plane` is a Kubernetes control plane
beside it.
"""
