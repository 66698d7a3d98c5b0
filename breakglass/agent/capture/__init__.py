# SPDX-License-Identifier: Apache-2.0
"""Captures: what is kept of a pod before its first kill.

Reason to change: what a post-mortem needs of a pod.
May touch: pod logs and /proc by reading, and its own folder of the state directory.
Promises: it delays a stop by at most its timeout, and no failure of it reaches the stop (P9).
"""
