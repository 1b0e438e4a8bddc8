# SPDX-License-Identifier: Apache-2.0
"""`python -m comet_moe.doctor`: what this installation has, what it lacks and how to get it."""

import sys
import types

from comet_moe._report import doctor, main


class _CallableModule(types.ModuleType):
    """Once this module is imported it has the name of the function comet_moe.doctor, so it acts as one."""

    def __call__(self) -> dict:
        return doctor()


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    main()
