# SPDX-License-Identifier: Apache-2.0
"""Which pods this node has: from the runtime, or from the kernel and the pod log folders.

Reason to change: how pods are found, or what shows a new pod first.
May touch: it reads the runtime and the control groups, uses inotify, and writes one file with the
last listing.
Promises: a snapshot says whether the runtime gave it.  A pod that is known by its name alone is
marked so.
"""
