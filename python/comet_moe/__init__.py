# SPDX-License-Identifier: Apache-2.0
"""Mixture-of-Experts layers over many ranks, communication hidden behind computation tile by tile.

    y = comet_moe.moe(x, topk_ids, topk_weights, w13, w2)

See MoeLayer for what the arrays are, World for the ranks, and `python -m comet_moe.doctor` for what this
installation can do.
"""

from comet_moe._command import bench
from comet_moe._core import __version__
from comet_moe._errors import (CapacityError, CometError, FileError, FormatError, InternalError,
                               InvalidArgumentError, MismatchError, OutOfRangeError, PeerError,
                               RankTimeoutError, UnsupportedError)
from comet_moe._report import doctor
from comet_moe.layer import MoeLayer, loaded_torch_ops, moe
from comet_moe.planning import Plan, plan
from comet_moe.trace import Event, Trace
from comet_moe.world import World


loaded_torch_ops()  # registers the operator, if torch is loaded

__all__ = ["CapacityError", "CometError", "Event", "FileError", "FormatError", "InternalError",
           "InvalidArgumentError", "MismatchError", "MoeLayer", "OutOfRangeError", "PeerError", "Plan",
           "RankTimeoutError", "Trace", "UnsupportedError", "World", "__version__", "bench", "doctor", "moe",
           "plan"]
