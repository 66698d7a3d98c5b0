# SPDX-License-Identifier: Apache-2.0
"""Holds: leases that keep workloads down, the gates that enforce them, and the watch.

Reason to change: what keeps a held pod down, or when a hold ends.
May touch: limits on the control groups of held pods; it is the only wing that does.
Promises: a hold and the old value of each limit are durable before the limit is set, and every
limit goes back when no active hold covers its pod (P4, P6).
"""
