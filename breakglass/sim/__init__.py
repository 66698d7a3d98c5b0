# SPDX-License-Identifier: Apache-2.0
"""Simulated nodes that speak the real protocols: a CRI server and a kubelet."""
