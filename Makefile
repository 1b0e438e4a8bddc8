# The everyday commands; CMake presets do the work. `make` alone lists them.
# JOBS=1 for machines that are short of memory.
JOBS ?= $(shell nproc)
# Tests wait for each other's deaths and time limits more than they compute.
TEST_JOBS ?= $(shell expr 2 '*' $(JOBS))
FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local
# For the shell, which is to expand ~ in it and not to part it at spaces.
space := $(subst ,, )
SHELL_PREFIX = $(subst $(space),\ ,$(PREFIX))

# ThreadSanitizer of g++ 12 needs the fixed address layout that setarch -R gives on new kernels.
FIXED_LAYOUT := $(shell command -v setarch >/dev/null && setarch -R true 2>/dev/null && echo setarch -R)

.PHONY: help deps tools-deps build test demo claims python cuda gpu-suite \
        check-evidence asan tsan fuzz lint format docs install clean

help: ## List these targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: # What building needs; returns at once if it is there.
	@tools/install_deps.sh

tools-deps: # Also what lint, fuzz and docs need.
	@tools/install_deps.sh --tools

build: deps ## Install what is missing, configure, build: build/cpu/comet.
	cmake --preset cpu
	cmake --build --preset cpu -j $(JOBS)

test: build ## Run all tests.
	ctest --preset cpu -j $(TEST_JOBS)

demo: deps ## Show what overlap gains, in under a minute.
	cmake --preset cpu
	cmake --build --preset cpu -j $(JOBS) --target comet_cli
	build/cpu/comet bench --demo --svg build/cpu/demo.svg

claims: build ## Assert what bench/ claims about speed; wants a quiet machine.
	build/cpu/bench/grouped_gemm_bench --check
	build/cpu/bench/call_overhead_bench --check

# --config-settings: the pip of Debian 12 has no -C.
python: deps ## Build the Python package into build/python-venv, run its tests.
	@tools/install_deps.sh --python
	test -x build/python-venv/bin/pip || python3 -m venv build/python-venv
	build/python-venv/bin/pip install --quiet --config-settings cmake.define.COMET_WERROR=ON \
		--config-settings cmake.define.COMET_CUDA=OFF '.[test]'
	build/python-venv/bin/python -m pytest -q

cuda: ## Install what is missing, nvcc too; compile all CUDA code: build/cuda.
	@tools/install_deps.sh --cuda
	cmake --preset cuda $$(tools/install_deps.sh --cuda-flags)
	cmake --build --preset cuda -j $(JOBS)

gpu-suite: cuda ## Pack what a GPU machine runs: build/gpu-suite/run_suite.sh OUT_DIR.
	tools/gpu/pack_suite.sh

check-evidence: ## Whether the GPU rows in bench/results are of the sources as they are.
	tools/gpu/check_evidence.py

asan: deps ## Build and test under AddressSanitizer and UBSan.
	cmake --preset cpu-asan
	cmake --build --preset cpu-asan -j $(JOBS)
	ctest --preset cpu-asan -j $(TEST_JOBS)

tsan: deps ## Build and test under ThreadSanitizer.
	cmake --preset cpu-tsan
	$(FIXED_LAYOUT) cmake --build --preset cpu-tsan -j $(JOBS)
	$(FIXED_LAYOUT) ctest --preset cpu-tsan -j $(TEST_JOBS)

fuzz: tools-deps ## Fuzz every harness, FUZZ_SECONDS=60 in all.
	tools/fuzz.sh $(FUZZ_SECONDS)

lint: tools-deps ## Format, layers, names, registration, clang-tidy.
	tools/lint.sh

format: tools-deps ## Format all C++ files in place.
	tools/lint.sh --fix-format

docs: tools-deps ## API pages in build/docs; a public symbol without a comment is an error.
	tools/docs.sh

install: build ## Install the library for find_package(comet) under PREFIX=/usr/local.
	cmake --install build/cpu --prefix $(SHELL_PREFIX)

clean: ## Remove build/.
	rm -rf build
