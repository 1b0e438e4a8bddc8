#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the API pages in build/docs/html. Fails, with a list, if a public symbol has no comment.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/docs
doxygen docs/Doxyfile
echo "docs: build/docs/html/index.html"
