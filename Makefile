# What a person types. Each target does all that it needs by itself; the work is in scripts/.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Options of `lockstep demo`, for example: make demo DEMO_FLAGS='--guest bare --rounds 5'
DEMO_FLAGS ?=
# Sections of the figures; all, if none is named.
BENCH_FLAGS ?=
# Cases of the differential test, and what decides them.
CASES ?= 2000000
SEED ?= 1
# Options of every `cargo build` and `cargo bench` here.
CARGO_FLAGS ?= --locked

# rustup installs here, which a shell that was open before does not know.
export PATH := $(HOME)/.cargo/bin:$(PATH)

lockstep := target/release/lockstep

.PHONY: help packages toolchain build images demo test differential bench clean

help: ## Show this list
	@echo 'lockstep: a virtual machine that outlives its host'
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'On a fresh Debian 12, as root and with a Rust toolchain, "make demo" and "make test" do'
	@echo 'everything by themselves. The first run builds the guest kernel: some minutes.'

demo: build ## Kill a primary while a client talks to its guest (DEMO_FLAGS=…)
	@scripts/images.sh >/dev/null
	@$(lockstep) demo $(DEMO_FLAGS)

test: toolchain packages images ## Format, lints and all tests
	@scripts/test.sh

build: toolchain packages ## The release binary, target/release/lockstep
	@cargo build $(CARGO_FLAGS) --release --package vmm --bin lockstep
	@echo '$(CURDIR)/$(lockstep)' >&2

images: toolchain packages ## The guest images; prints where they lie
	@scripts/images.sh

differential: toolchain packages ## Random instructions on KVM and on the software CPU (CASES=…, SEED=…)
	@cargo run $(CARGO_FLAGS) --release --package lockstep-differential --bin differential -- --cases $(CASES) --seed $(SEED)

bench: build ## The figures of docs/performance.md (BENCH_FLAGS='exits cpu log latency failover disk disk-server')
	@scripts/images.sh >/dev/null
	@scripts/with-images.sh cargo bench $(CARGO_FLAGS) --package lockstep-benches --bench figures -- $(BENCH_FLAGS)

packages: ## Install the Debian packages that are missing (as root)
	@scripts/packages.sh

toolchain: ## Check cargo and add the guests' Rust targets
	@scripts/toolchain.sh

clean: ## Remove what was built here (the guest kernel's cache stays)
	@rm -rf target guest-images/bare/target guest-images/programs/target guest-images/linux/out
