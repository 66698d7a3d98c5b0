# SPDX-License-Identifier: Apache-2.0
"""Measure what breakglass costs, as ratios to a reference that is measured in the same run.

`python -m benchmarks [NAME]` prints one JSON line for each measurement.  A figure alone depends on
the machine; the ratio does not.  Both sides alternate, so that a slow minute slows both.  No
benchmark passes or fails.
"""
