# SPDX-License-Identifier: Apache-2.0
"""The incident on a real Kubernetes of two nodes: flood, outage, hold, roll-forward, release.

`world` starts everything that takes part, `acts` has the acts, and `watch` proves that the workload
stays down.  `python -m scenarios.incident` plays it.
"""
