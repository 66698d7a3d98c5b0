# SPDX-License-Identifier: Apache-2.0
"""The node's control groups: find those of pods, set limits on them, kill through the kernel.

Reason to change: how Linux, systemd or a cgroup driver lays out control groups.
May touch: /proc, the control-group filesystems, and systemctl for the slices of pods.  Nothing
else in the agent writes there.
Promises: a group counts as a pod's only when its name has the pod's whole UID.  A limit counts
only when it reads back.  A kill never reaches the agent, the runtime or kubelet (P5, P8).
"""
