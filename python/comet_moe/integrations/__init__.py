# SPDX-License-Identifier: Apache-2.0
"""Comet as what other frameworks call; each module needs its framework and is imported by name."""
