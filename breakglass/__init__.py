# SPDX-License-Identifier: Apache-2.0
"""breakglass: stop named DaemonSet pods on Kubernetes nodes when Kubernetes itself is down."""

__version__ = "0.1.0"
