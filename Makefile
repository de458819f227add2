# The only entry, for people and for CI. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

ifndef PYTHON
PYTHON     := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 /usr/bin/python3; do \
                command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
endif
CARGO      ?= cargo
RUST_MIN   := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
VENV       := .venv
BIN        := $(VENV)/bin
CARGO_DENY := $(or $(shell command -v cargo-deny),build/tools/bin/cargo-deny)
STAMPS     := build/stamps
LOGS       := build/logs
WHEELS     := build/wheels

# What the tests need from the system. The servers are real ones; nothing here is started by the package manager.
APT_PACKAGES := build-essential faketime pkg-config openssl util-linux prosody ejabberd python3-venv valgrind cmake curl postgresql libstrophe-dev
# Where another source has brought these, Debian's are not wanted beside them.
APT_PACKAGES += $(if $(shell command -v go),,golang-go) $(if $(shell command -v node),,nodejs)
APT_PACKAGES += $(if $(shell command -v pypy3),,pypy3) $(if $(shell command -v chromium),,chromium)

# The parts of `make test`, in the order they run. The C library is tested in test-python and test-servers.
TEST_PARTS := test-rust test-simulator test-python test-servers test-go
CHECK_PARTS := check-fmt check-clippy check-pure check-ruff check-types check-licences check-docs

RUST_SOURCES   := Cargo.toml Cargo.lock $(shell find core python/src python/Cargo.toml capi -name '*.rs' -o -name Cargo.toml 2>/dev/null)
PYTHON_SOURCES := $(shell find python -path python/src -prune -o -type f -not -name '*.pyc' -not -name '*.so' -print 2>/dev/null)

.PHONY: help
help: ## this list
	@echo 'make TARGET, where TARGET is one of'
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

##### What people ask for

.PHONY: demo test check bench
demo: $(STAMPS)/wheel ## build, and chat with an example bot in this terminal (no XMPP server needed)
	@$(BIN)/appxmpp demo

test: setup ## everything that proves the product works; ends with a summary
	@mkdir -p $(LOGS); : > $(LOGS)/summary; bad=; started=$$SECONDS; \
	for part in $(TEST_PARTS); do \
	  from=$$SECONDS; printf '\n== %s\n' "$$part"; \
	  if $(MAKE) --no-print-directory $$part 2>&1 | tee $(LOGS)/$$part.log; then verdict=ok; else verdict=FAILED; bad+=" $$part"; fi; \
	  printf '%-14s %-6s %6d %-9s %5d s\n' "$$part" "$$verdict" $$($(call count_tests,$(LOGS)/$$part.log)) "$$((SECONDS - from))" >> $(LOGS)/summary; \
	done; \
	tests/vectors/compare $(LOGS)/*.log || bad+=' vectors'; \
	printf '\n== summary\n'; grep -ho 'NOT TESTED.*' $(LOGS)/*.log | sort | uniq -c || true; cat $(LOGS)/summary; \
	left=$$(sed -n 's/.*NOT TESTED:* *//p' $(LOGS)/*.log | sort -u | paste -sd '|' | sed 's/|/; /g'); \
	if [ -n "$$bad" ]; then echo "make test: FAILED in $$((SECONDS - started)) s:$$bad (logs in $(LOGS)/)"; exit 1; fi; \
	echo "make test: all parts passed, $$(awk '{n[$$4] += $$3} END {print n["tests"] + 0, "tests and", n["scenarios"] + 0, "scenarios"}' $(LOGS)/summary) in $$((SECONDS - started)) s$${left:+; NOT TESTED: $$left}"

check: $(STAMPS)/wheel $(CHECK_PARTS) ## formatting, lints, types, licences, purity of the protocol layer
	@echo 'make check: clean'

bench: rust apt ## what it costs, beside its peers and limits: tables, and JSON in build/bench (ONLY=send ROUNDS=3; tests/bench/README.md)
	@$(PYTHON) tests/bench/run $(MAKEOVERRIDES)

# cargo and pytest both end with "N passed", the simulator with "N scenarios passed". A scenario is no test.
define count_tests
awk '{for (i = 2; i <= NF; i++) if ($$i ~ /^passed[;,]?$$/) {if ($$(i-1) == "scenarios") s += $$(i-2); else n += $$(i-1)}} \
  END {print s ? s " scenarios" : n + 0 " tests"}' $(1)
endef

##### Parts of the tests

.PHONY: test-rust test-python test-servers test-go test-faults
test-rust: rust apt ## unit, property and cross-crate tests of the Rust crates
	PYTHONPATH=tests $(PYTHON) -m support.postgres -- $(CARGO) test --workspace

# Twenty thousand scenarios in some ten seconds, and about a minute to build.
.PHONY: test-simulator
test-simulator: rust ## twenty thousand scenarios of the simulator, in a fast profile that keeps all checks
	$(SIMULATE) 20000 1

test-python: $(STAMPS)/wheel ## the Python face, without an XMPP server (PYTEST='-k name' narrows)
	$(BIN)/python -m pytest tests/python -m 'not servers' $(PYTEST)

test-servers: $(STAMPS)/wheel apt build/tools/bin/cargo-deb ## the product against real Prosody and ejabberd, with real clients
	$(BIN)/python -m pytest tests/python -m servers $(PYTEST)

test-go: rust ## the Go package, by the race detector too; its examples are run by test-servers
	tests/go/run

test-faults: rust apt $(STAMPS)/venv ## 200 random faults under load, nothing acknowledged is lost (RUNS=20 SEED=7 ONLY=network; test-servers has SHORT=1)
	cd tests && ../$(BIN)/python -m support.faults --runs $(or $(RUNS),200) $(if $(SEED),--seed $(SEED)) $(if $(SHORT),--short) --only '$(ONLY)'

.PHONY: wheel-py27
wheel-py27: rust ## the wheel for Python 2.7, 3.6 to 3.9 and PyPy (ctypes and libappxmpp), in dist/
	$(CARGO) build --release --quiet --package appxmpp-capi
	@mkdir -p build/py27
	strip --strip-unneeded -o build/py27/libappxmpp.so $(or $(CARGO_TARGET_DIR),target)/release/libappxmpp.so
	$(PYTHON) python/build_ctypes_wheel.py build/py27/libappxmpp.so dist

# The service is not enabled: it needs a configuration and a secret first.
.PHONY: deb
deb: build/tools/bin/cargo-deb ## the gateway as a Debian package, in dist/
	PATH="$(CURDIR)/build/tools/bin:$$PATH" $(CARGO) deb --package appxmpp-gateway --output dist/
	@rm -rf build/deb && dpkg-deb -x "$$(ls -t dist/appxmpp_*.deb | head -1)" build/deb
	@APPXMPP_SECRET=x build/deb/usr/bin/appxmpp check --config build/deb/etc/appxmpp/appxmpp.toml

.PHONY: fuzz
fuzz: build/tools/bin/cargo-fuzz ## the fuzz targets, FUZZ_SECONDS=60 each (needs a nightly Rust)
	@rustup toolchain list 2>/dev/null | grep -q ^nightly || { echo 'make fuzz: needs a nightly toolchain: rustup toolchain install nightly'; exit 1; }
	@for target in $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs))); do \
	  printf '\n== %s\n' $$target; \
	  RUSTUP_TOOLCHAIN=nightly $< run --fuzz-dir tests/fuzz $$target -- -max_total_time=$(or $(FUZZ_SECONDS),60) -timeout=10 -rss_limit_mb=2048; done

.PHONY: header
header: rust ## write capi/include/appxmpp.h anew (make test fails when it is out of date)
	APPXMPP_UPDATE_HEADER=1 $(CARGO) test --quiet --package appxmpp-capi --test header

SIMULATE = $(CARGO) run --quiet --profile simulate --package appxmpp-simulator --

.PHONY: simulate simulate-trace simulate-mutations
simulate: rust ## RUNS=100000 scenarios of the simulator from SEED=1 on (THREADS=2, STEP=8 for one of its eight kinds); the trace of the first that fails
	@$(SIMULATE) $(or $(RUNS),100000) $(or $(SEED),1)

simulate-trace: rust ## what happens in the scenario of SEED=1
	@$(SIMULATE) trace $(or $(SEED),1)

simulate-mutations: rust ## whether the simulator finds each fault of tests/simulator/mutations within RUNS=20000 (ONLY=name)
	@tests/simulator/mutate build/mutations $(or $(RUNS),20000) $(ONLY)

##### Parts of the check

.PHONY: fmt lint check-fmt check-clippy check-pure check-ruff check-types check-licences check-docs
fmt: rust $(STAMPS)/venv ## format the sources
	$(CARGO) fmt --all
	$(BIN)/ruff format --quiet tests python

lint: check-clippy check-ruff ## clippy and ruff

check-fmt: rust
	$(CARGO) fmt --all --check

check-clippy: rust
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings -A clippy::disallowed-methods

# wasm32-unknown-unknown has no clock, socket or randomness: the protocol layer has to build there.
check-pure: rust
	@if ! rustc --print target-libdir --target wasm32-unknown-unknown | xargs test -d; then \
	  command -v rustup >/dev/null || { echo "check-pure: the Rust target wasm32-unknown-unknown is missing and there is no rustup to add it; install it and run again"; exit 1; }; \
	  rustup target add wasm32-unknown-unknown; fi
	$(CARGO) check --package appxmpp --no-default-features --target wasm32-unknown-unknown
	$(CARGO) clippy --package appxmpp --no-default-features --quiet -- -D warnings -D clippy::disallowed-methods

check-ruff: $(STAMPS)/venv
	$(BIN)/ruff check tests python
	$(BIN)/ruff format --check tests python

# stubtest compares the stubs with what is installed, so it needs the wheel.
check-types: $(STAMPS)/wheel
	$(BIN)/mypy --strict tests/support
	@if [ -f python/pyproject.toml ]; then set -x; \
	  (cd python && ../$(BIN)/mypy -p appxmpp -p google); \
	  $(BIN)/stubtest --concise --ignore-unused-allowlist --mypy-config-file python/pyproject.toml --allowlist python/stubtest-allowlist.txt \
	    appxmpp google.appengine.api.xmpp google.appengine.ext.webapp; fi

check-licences: $(CARGO_DENY)
	$(CARGO_DENY) --all-features check --hide-inclusion-graph licenses bans sources

check-docs: rust
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --quiet

##### What they stand on

# Tools of single targets, and a minute or two to build.
CARGO_DENY_VERSION := 0.20.2
build/tools/bin/cargo-deny: | rust
	$(CARGO) install --quiet --debug --locked --root build/tools cargo-deny --version $(CARGO_DENY_VERSION)

build/tools/bin/cargo-deb: | rust
	$(CARGO) install --quiet --debug --locked --root build/tools cargo-deb --version 3.8.0

build/tools/bin/cargo-fuzz: | rust
	$(CARGO) install --quiet --debug --locked --root build/tools cargo-fuzz --version 0.13.2

.PHONY: setup rust apt venv wheel clean
setup: rust apt $(STAMPS)/venv ## find or install what the tests need

rust:
	@command -v $(CARGO) >/dev/null || { echo "make: cargo not found. Install Rust $(RUST_MIN) or newer (https://www.rust-lang.org/tools/install) and run again."; exit 1; }
	@have=$$(rustc --version | sed 's/rustc \([0-9.]*\).*/\1/'); \
	  printf '%s\n' $(RUST_MIN) "$$have" | sort -CV || { echo "make: Rust $$have is too old; $(RUST_MIN) or newer is needed (rustup update)."; exit 1; }

# Debian starts a server when its package is installed; ours run in folders and on ports of their own,
# so for the time of the installation a policy says no (and one that is there already is left alone).
apt:
	@missing=; for p in $(APT_PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing+=" $$p"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	install="apt-get install -y --no-install-recommends$$missing"; \
	command -v apt-get >/dev/null || { echo "make: these Debian packages are needed and there is no apt-get here:$$missing"; exit 1; }; \
	if [ "$$(id -u)" != 0 ]; then echo "make: packages are missing; run this as root, then again:"; echo "  $$install"; exit 1; fi; \
	policy=/usr/sbin/policy-rc.d; made=; \
	if [ ! -e $$policy ]; then made=$$policy; printf '#!/bin/sh\nexit 101\n' > $$policy; chmod +x $$policy; fi; \
	clusters=/etc/postgresql-common/createcluster.d/zz-none.conf; \
	mkdir -p $${clusters%/*}; echo 'create_main_cluster = false' > $$clusters; \
	trap 'rm -f $$clusters $$made' EXIT; \
	export DEBIAN_FRONTEND=noninteractive; \
	$$install || { apt-get update && $$install; } || { echo "make: apt-get could not install$$missing (no network?); install them and run again"; exit 1; }

venv: $(STAMPS)/venv
$(STAMPS)/venv: tests/python/requirements.txt
	@[ -n '$(PYTHON)' ] || { echo 'make: no Python 3.10 or newer found; install one or say which: make PYTHON=/path/to/python3'; exit 1; }
	@mkdir -p $(@D)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory apt
	@[ -x $(BIN)/python ] && $(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r $< || \
	  { echo 'make: pip could not install tests/python/requirements.txt. Without a network, give pip a folder of wheels: PIP_NO_INDEX=1 PIP_FIND_LINKS=/folder make ...'; exit 1; }
	@touch $@

wheel: $(STAMPS)/wheel ## build the Python wheel and install it into .venv
# The profile of the tests: checks for overflow and debug assertions stay on.
$(STAMPS)/wheel: $(STAMPS)/venv $(RUST_SOURCES) $(PYTHON_SOURCES) | rust
	@if [ ! -f python/pyproject.toml ]; then touch $@; exit 0; fi; \
	rm -rf $(WHEELS); \
	$(BIN)/maturin build --quiet --profile dev --manifest-path python/Cargo.toml --interpreter $(BIN)/python --out $(WHEELS); \
	$(BIN)/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps $(WHEELS)/*.whl; \
	touch $@

clean: ## remove what was built, and the virtual environment
	rm -rf build target $(VENV)

include capi/capi.mk
