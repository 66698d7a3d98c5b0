# SPDX-License-Identifier: Apache-2.0
"""What breakglass costs, as ratios to a peer or a floor that is measured beside it in the same run.

`python -m benchmarks [NAME]` prints one JSON line per measurement.  A figure alone says what a
machine is; the ratio says what we are, and both sides alternate so that a slow minute slows both.
Nothing here passes or fails.
"""
