# SPDX-License-Identifier: Apache-2.0
"""Captures: what a node keeps of a pod before the pod's first kill.

Reason to change: what a post-mortem needs of a pod.
May touch: it reads pod logs and /proc, and writes its own folder of the state directory.
Promises: a capture delays a stop by at most its timeout, and never makes it fail (P9).
"""
