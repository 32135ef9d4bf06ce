# SPDX-License-Identifier: Apache-2.0
# The front door. Everything real is in CMakeLists.txt; `make help` lists what there is.
# What CMake is told besides, kept by a build folder from then on: make demo CMAKE_ARGS=-DTOKAMAK_NVCC=off
CMAKE_ARGS ?=
BUILD ?= build
# Those that run on several threads
THREADED = $(addprefix test_,core device fuse generate kernels linear models pool program tokenizer)
TOKAMAK = $(BUILD)/bin/tokamak

.PHONY: all configure command cuda bundle demo check bench judge asan tsan sanitize fuzz lint format docs install deps clean help

all: configure           ## build the command, the libraries and the tests into build/
	@cmake --build $(BUILD)

configure: deps
	@cmake --preset release -B $(BUILD) $(CMAKE_ARGS) >/dev/null

command: configure       ## build the command alone
	@cmake --build $(BUILD) --target tokamak_cli

cuda: deps              ## fetch the CUDA compiler into ~/.cache (no root, no GPU needed), then build with it
	@tools/cuda.sh >/dev/null && $(MAKE) --no-print-directory all

bundle: all              ## a folder for GPU machines without packages, build/bundle; then its tools/device_check.sh
	@tools/bundle.sh $(BUILD)

demo: command            ## fetch a small model (93 MB) and let it answer
	@$(TOKAMAK) pull smollm2
	@$(TOKAMAK) run smollm2 -p "Why is the sky blue?" -n 96 --temp 0
	@$(TOKAMAK) bench smollm2 -p 128 -n 64 -r 3

check: all               ## run all tests (no network needed)
	@ctest --test-dir $(BUILD) --output-on-failure -j 2

bench: command           ## measure the kernels of this machine
	@$(TOKAMAK) bench ops

judge: all               ## compare with llama.cpp, transformers and HF tokenizers from PyPI (several GB, an hour)
	@tools/deps.sh dev && python3 tools/judge.py --build $(BUILD)

asan: deps               ## all tests under AddressSanitizer and UBSan
	@cmake --preset asan >/dev/null && cmake --build build-asan && ctest --test-dir build-asan --output-on-failure -j 2

tsan: deps               ## the tests with threads under ThreadSanitizer, of the whole models one
	@cmake --preset tsan >/dev/null && cmake --build build-tsan --target $(THREADED) && \
	  TOKAMAK_TEST_MODEL=qwen2_moe setarch -R ctest --test-dir build-tsan --output-on-failure -j 2 -R "^($$(echo $(THREADED) | tr ' ' '|'))$$"

sanitize: asan tsan      ## both of these

fuzz:                    ## libFuzzer on every parser, FUZZ_SECONDS each (default 60)
	@tools/deps.sh dev && tools/fuzz.sh

lint:                    ## clang-format, clang-tidy, cppcheck, the tree's own rules
	@tools/deps.sh dev && tools/lint.sh $(BUILD)

format:                  ## clang-format all C files in place
	@git ls-files '*.c' '*.h' | grep -v "unicode_\(data\|hf\|sets\).h" | xargs clang-format -i

docs: command            ## write README's tables of what is supported anew
	@python3 tools/update_readme.py $(TOKAMAK)

install: all             ## install below PREFIX (default /usr/local)
	@cmake --install $(BUILD) --prefix $(or $(PREFIX),/usr/local)

deps:                    # Debian packages; does nothing when they are there
	@tools/deps.sh

clean:                   ## remove all build folders
	@rm -rf build build-asan build-tsan build-fuzz

help:                    ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*##/:/' | column -t -s ':'
