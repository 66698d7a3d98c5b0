# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes: a control plane, a bastion and nodes, in namespaces of this machine.

`cluster` is the whole and `node` one of its nodes; `programs` is what they run, `texts` what they
are configured with.
"""
