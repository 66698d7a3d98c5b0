# SPDX-License-Identifier: Apache-2.0
"""Evidence on the bastion: receipts, checkpoints and whole logs of nodes, verified and kept.

Reason to change: what is proven about a node's log, or how the proof is kept.
May touch: the evidence folders of the home.
Promises: nothing that was kept is replaced by what does not verify (P4).
"""
