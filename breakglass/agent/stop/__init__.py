# SPDX-License-Identifier: Apache-2.0
"""The ladder: stopping containers by the runtime or the kernel, and looking until they are down.

Reason to change: how a container is stopped, or what counts as seen down.
May touch: containers, through the runtime and the kernel's kill.  It sets no limits.
Promises: "down" is what was seen after the last act, never what a call answered (P5).
"""
