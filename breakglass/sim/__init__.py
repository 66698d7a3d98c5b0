# SPDX-License-Identifier: Apache-2.0
"""Nodes that are not there, speaking the real protocols: a CRI server and a kubelet."""
