# SPDX-License-Identifier: Apache-2.0
"""The container runtime: the port to it, and CRI v1 over its unix socket.

Reason to change: what the agent asks a runtime, or how a runtime answers.
May touch: the runtime's socket, and /proc for the process that listens on it.
Promises: every call ends within its own deadline, and only full ids are ever sent (P5).
"""
