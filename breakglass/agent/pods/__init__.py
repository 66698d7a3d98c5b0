# SPDX-License-Identifier: Apache-2.0
"""Which pods this node has: by the runtime, or without it by the kernel and the pod log folders.

Reason to change: how pods are found, or how a new pod shows itself first.
May touch: the runtime and the control groups by reading, inotify, and one file with the last
listing.
Promises: a snapshot says whether the runtime gave it; a pod known by its name alone says so.
"""
