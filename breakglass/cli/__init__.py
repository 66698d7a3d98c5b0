# SPDX-License-Identifier: Apache-2.0
"""The command lines for people: the only package that prints, exits or reads argv."""
