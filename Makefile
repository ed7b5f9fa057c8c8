# Everything sets up what it needs: on a fresh machine a Rust toolchain is enough.
.PHONY: build test demo bench deb pages setup clean

TARGET = $(abspath $(or $(CARGO_TARGET_DIR),target))
MESHD_BIN = $(TARGET)/release/meshd
MESHD_FIGURES = $(TARGET)/figures.txt
PAGES = $(TARGET)/pages

build: setup
	cargo build --release --package meshd

# All tests of the workspace, those against the real binary in network namespaces included.
test: build
	@rm -f $(MESHD_FIGURES)
	MESHD_BIN=$(MESHD_BIN) MESHD_FIGURES=$(MESHD_FIGURES) MESHD_PAGES=$(PAGES) cargo test --workspace
	packaging/test/run.sh $(MESHD_BIN) $(PAGES) $(TARGET)/package
	@echo; echo "Measured, not judged:"; sort $(MESHD_FIGURES)

# The Debian package: target/deb/meshd_VERSION_ARCHITECTURE.deb.
deb: build pages
	packaging/build.sh $(MESHD_BIN) $(PAGES) $(TARGET)/deb

# Manual pages and completions, written by the tests that hold them against the command line.
pages:
	@rm -rf $(PAGES)
	MESHD_PAGES=$(PAGES) cargo test --quiet --package meshd --bin meshd -- pages

# The main job, for real, without root. KEEP=1 stays open with a shell among the nodes.
demo: setup
	cargo build --release --package meshd --package netns-tests --bin meshd --bin demo
	@MESHD_BIN=$(MESHD_BIN) KEEP=$(KEEP) $(TARGET)/release/demo

# meshd side by side with the tunnels that are on this machine; BENCH="--install" and the like are passed on.
bench: build
	MESHD_BIN=$(MESHD_BIN) cargo run --release --package bench --bin bench -- $(BENCH)

setup:
	@scripts/setup.sh

clean:
	cargo clean
