# SPDX-License-Identifier: Apache-2.0
"""Simulated nodes behind processes, made of what `breakglass.sim` simulates.

`node` is a node as a process and `agent` the agent on it, a second process; `remote` is the socket
between the two, and `kernel` the agent's kernel port over that socket.
"""
