# SPDX-License-Identifier: Apache-2.0
"""Simulated nodes as processes, built from `breakglass.sim`.

`node` runs a node as a process, and `agent` runs the agent of that node as a second process.
`remote` is the socket between the two; `kernel` is the agent's kernel port over that socket.
"""
