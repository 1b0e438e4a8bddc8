# SPDX-License-Identifier: Apache-2.0
"""`python -m comet_moe.command`: the command `comet`, which the package brings."""

from comet_moe._command import main

if __name__ == "__main__":
    main()
