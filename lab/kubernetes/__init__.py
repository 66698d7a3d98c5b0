# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes cluster: a control plane, a bastion and nodes, in namespaces of this machine.

`cluster` starts all of it and `node` is one of its nodes.  `programs` builds the programs from the
pinned sources beside it (`build.sh`); `texts` makes configurations and manifests.
"""
