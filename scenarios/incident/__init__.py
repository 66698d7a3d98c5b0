# SPDX-License-Identifier: Apache-2.0
"""The incident on a real Kubernetes of two nodes: flood, outage, hold, roll-forward, release.

`world` is everything that takes part, `acts` what happens, `watch` what proves that the workload
stays down; `python -m scenarios.incident` plays it.
"""
