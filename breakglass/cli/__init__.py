# SPDX-License-Identifier: Apache-2.0
"""For people: the only place that prints, exits or reads argv."""
