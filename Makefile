# `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# Cargo and Go use every core themselves, and wait for each other on one build directory.
.NOTPARALLEL:

CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2
CARGO_ABOUT_VERSION := 0.9.3
CARGO_CYCLONEDX_VERSION := 0.5.9
CARGO_ZIGBUILD_VERSION := 0.24.1
MDBOOK_VERSION := 0.5.4
ZIG_VERSION := 0.17.1

# Programs that are neither waybill nor built by tests/tools/build. The tests look here too.
TOOLS := target/tools
CARGO_DENY := $(TOOLS)/bin/cargo-deny
CARGO_ABOUT := $(TOOLS)/bin/cargo-about
CARGO_CYCLONEDX := $(TOOLS)/bin/cargo-cyclonedx
CARGO_ZIGBUILD := $(TOOLS)/bin/cargo-zigbuild
MDBOOK := $(TOOLS)/bin/mdbook
PROMETHEUS := $(TOOLS)/bin/prometheus
PROMTOOL := $(TOOLS)/bin/promtool
KUBECTL := $(or $(WAYBILL_TOOLS_DIR),tests/tools/bin)/kubectl

# Test targets of tests/, told apart by whether they need a control plane.
TEST_TARGETS := $(sort $(patsubst tests/%.rs,%,$(wildcard tests/*.rs)) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)))
NEED_TOOLS := cluster peer chaos e2e
ONLINE_TESTS := $(filter $(NEED_TOOLS),$(TEST_TARGETS))
OFFLINE_TESTS := $(filter-out $(NEED_TOOLS),$(TEST_TARGETS))

# Tests with a control plane mostly wait, so more of them run at once than there are cores.
WAITING_TESTS := RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4}

# Every kustomization but the components, which only exist as a part of another.
KUSTOMIZATIONS := $(filter-out manifests/components/%,$(shell find manifests -name kustomization.yaml | LC_ALL=C sort))

##@ Tests

.PHONY: test
test: test-manifests test-unit bench-instructions test-online ## Everything: manifests; unit, golden and documentation tests; instruction counts; tests with a control plane

.PHONY: test-unit
test-unit: ## Tests that need neither a network nor a control plane
	$(CARGO) test --locked --lib --bins $(addprefix --test ,$(OFFLINE_TESTS))
	$(CARGO) test --locked --doc

.PHONY: test-online
test-online: tools prometheus
ifneq ($(ONLINE_TESTS),)
	@# One seed, so that a change is judged by itself; `make peer` and `make chaos` take another one each time.
	WAYBILL_PEER_SEED=$${WAYBILL_PEER_SEED:-20261124} WAYBILL_CHAOS_SEED=$${WAYBILL_CHAOS_SEED:-20261124} \
		$(WAITING_TESTS) $(CARGO) test --locked $(addprefix --test ,$(ONLINE_TESTS))
endif

.PHONY: test-cluster
test-cluster: tools prometheus ## The operator against a real API server
	$(WAITING_TESTS) $(CARGO) test --locked --test cluster

.PHONY: e2e
e2e: tools ## End to end: operator, agent and a real Traefik; requests must reach the right backend
	$(CARGO) test --locked --test e2e

# The release before this one; another: make test-upgrade OLD=v0.1.0
OLD ?= $(shell git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null)
UPGRADE := $(CURDIR)/target/upgrade
.PHONY: test-upgrade
test-upgrade: tools ## Upgrade from the last release (or OLD=REV) and roll back, with both versions side by side
	@[ -n "$(OLD)" ] || { echo "make: no tag v* is older than this commit; name one: make test-upgrade OLD=REV" >&2; exit 1; }
	rm -rf $(UPGRADE)/source
	mkdir -p $(UPGRADE)/source
	@# Files get the time of now, or Cargo would take them for older than what it built of another release.
	git archive "$(OLD)^{commit}" | tar -xm -C $(UPGRADE)/source
	$(CARGO) build --locked --bin waybill --manifest-path $(UPGRADE)/source/Cargo.toml --target-dir $(UPGRADE)/target
	WAYBILL_OLD_BINARY=$(UPGRADE)/target/debug/waybill WAYBILL_OLD_SOURCE=$(UPGRADE)/source \
		$(CARGO) test --locked --test cluster operator::upgrade -- --nocapture
	WAYBILL_OLD_BINARY=$(UPGRADE)/target/debug/waybill $(CARGO) test --locked --test e2e -- skew

.PHONY: test-long
test-long: tools prometheus ## Tests that take minutes: the lease and dead watches with the default timings, 10,000 statuses
	$(CARGO) test --locked --test cluster -- --ignored --nocapture --test-threads 1

.PHONY: peer
peer: tools ## Compare the routing with that of Traefik's own provider
	@# Our own code optimised a little: of the objects of 2,000 clusters that spares minutes.
	CARGO_PROFILE_DEV_OPT_LEVEL=1 WAYBILL_PEER_CLUSTERS=$${WAYBILL_PEER_CLUSTERS:-2000} $(CARGO) test --locked --test peer -- --nocapture

CHAOS := $(CARGO) test --locked --release --test chaos rounds -- --nocapture
.PHONY: chaos
chaos: ## Network faults and killed processes while readers watch: 100 rounds, then one with 50,000 Ingresses
	tests/tools/build etcd kube-apiserver kubectl
	WAYBILL_CHAOS_ROUNDS=$${WAYBILL_CHAOS_ROUNDS:-100} $(CHAOS)
	WAYBILL_CHAOS_ROUNDS=1 WAYBILL_CHAOS_INGRESSES=$${WAYBILL_CHAOS_INGRESSES:-50000} $(CHAOS)

.PHONY: test-manifests
test-manifests: manifests-render test-alerts ## Render every kustomization, check the alerts

.PHONY: manifests-render
manifests-render:
	tests/tools/build kubectl
	@mkdir -p target/manifests
	@for file in $(KUSTOMIZATIONS); do \
		folder=$$(dirname "$$file"); \
		$(KUBECTL) kustomize "$$folder" >"target/manifests/$$(echo "$$folder" | tr / -).yaml"; \
		echo "$$folder renders"; \
	done

# A PrometheusRule is a rule file below `spec:`, which ends the document.
.PHONY: test-alerts
test-alerts: prometheus
	@mkdir -p target/manifests
	@sed '1,/^spec:/d; s/^  //' manifests/components/alerts/prometheusrule.yaml >target/manifests/rules.yaml
	@cp tests/alerts.yaml target/manifests/rules-test.yaml
	$(PROMTOOL) check rules target/manifests/rules.yaml
	$(PROMTOOL) test rules target/manifests/rules-test.yaml

.PHONY: test-alerts-long
test-alerts-long: tools prometheus ## Each alert fires and resolves in a real Prometheus, with the shipped durations: half an hour
	WAYBILL_ALERTS_FACTOR=1 $(CARGO) test --locked --test cluster alerts:: -- --nocapture

.PHONY: dashboard-picture
dashboard-picture: tools prometheus ## Draw docs/dashboard.svg from the metrics of the last alert test
	WAYBILL_DASHBOARD_PICTURE=$(CURDIR)/docs/dashboard.svg $(CARGO) test --locked --test cluster alerts:: -- --nocapture

##@ Quality

.PHONY: lint
lint: fmt-check clippy rustdoc deny msrv-check ## Format; clippy and rustdoc without warnings; licences and sources of the dependencies

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all --check

.PHONY: clippy
clippy:
	$(CARGO) clippy --locked --all-targets -- -D warnings

.PHONY: rustdoc
rustdoc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

.PHONY: deny
deny: $(CARGO_DENY)
	$(CARGO_DENY) --locked check bans licenses sources

# Cheap: no dependency may require a newer Rust than Cargo.toml does. `make msrv` compiles with that version.
.PHONY: msrv-check
msrv-check:
	@ours=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	newest=$$($(CARGO) metadata --locked --format-version 1 | grep -o '"rust_version":"[0-9.]*"' \
		| sed 's/.*:"//; s/"//; s/^\([0-9]*\.[0-9]*\)\.0$$/\1/' | sort -V | tail -n 1); \
	if [ "$$(printf '%s\n' "$$ours" "$$newest" | sort -V | tail -n 1)" != "$$ours" ]; then \
		echo "Cargo.toml says rust-version $$ours, but a dependency needs $$newest" >&2; exit 1; \
	fi; \
	echo "rust-version $$ours covers every dependency"

.PHONY: msrv
msrv: ## Compile with the oldest Rust that Cargo.toml promises (rustup installs it)
	version=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	rustup toolchain install --profile minimal "$$version"; \
	rustup run "$$version" cargo check --locked --all-targets --target-dir target/msrv

.PHONY: bench
bench: ## Benchmarks that need no control plane
	$(CARGO) bench --locked --bench translate --bench table --bench render --bench limits

.PHONY: bench-instructions
bench-instructions: ## Instructions of translation, table, shards and render under valgrind against benches/instructions.txt
	$(CARGO) bench --locked --profile dev --bench instructions -- $(if $(WRITE),--write)

# Any number of Ingresses: make load INGRESSES=50000
INGRESSES ?= 10000
.PHONY: load
load: ## The operator at 10,000 Ingresses in a real API server: times, memory, CPU and bytes against the goals
	tests/tools/build etcd kube-apiserver kubectl
	$(CARGO) bench --locked --bench load -- --ingresses $(INGRESSES)

# Sizes: make bench-peer INGRESSES=1000,50000; where Traefik takes more memory than there is: ALONE=1;
# with the Ingresses in ten classes with outputs of their own: OUTPUTS=10
.PHONY: bench-peer
bench-peer: ## waybill compared with a complete Traefik at 1,000 and 10,000 Ingresses; fails if a ratio is missed
	tests/tools/build etcd kube-apiserver kubectl traefik
	$(CARGO) bench --locked --bench peer-bench -- $(if $(filter command line environment,$(origin INGRESSES)),--ingresses $(INGRESSES)) $(if $(ALONE),--alone) $(if $(OUTPUTS),--outputs $(OUTPUTS))

.PHONY: load-edge
load-edge: ## Operator, agent and a real Traefik at 10,000 Ingresses: from a change to Traefik's API, CPU, memory
	tests/tools/build etcd kube-apiserver kubectl traefik
	$(CARGO) bench --locked --bench load -- --edge --ingresses $(INGRESSES)

.PHONY: load-tracing
load-tracing: ## What operator.otlpEndpoint costs: CPU for a changed endpoint with traces and without
	tests/tools/build etcd kube-apiserver kubectl
	$(CARGO) bench --locked --bench load -- --tracing --ingresses $(INGRESSES)

##@ Running

.PHONY: run-local
run-local: ## A control plane with the example shop, the operator, and a Traefik with its agent, until Ctrl-C
	tests/tools/build etcd kube-apiserver kubectl traefik
	$(CARGO) build --locked --bin waybill --example run-local
	$(CARGO) run --locked --example run-local

##@ Generated files

.PHONY: crds
crds: ## Write crds/ from the Rust types
	@mkdir -p crds
	$(CARGO) run --locked --quiet -- crds >crds/.new
	mv crds/.new crds/waybill.dev_ingressclassparameters.yaml

.PHONY: docs
docs: ## Write docs/options.md and docs/lint.md from their tables, and docs/graph.svg from the example
	$(CARGO) run --locked --quiet -- options --format markdown >docs/.new
	mv docs/.new docs/options.md
	WAYBILL_WRITE_DOCS=1 $(CARGO) test --locked --quiet --lib lint::codes
	$(CARGO) run --locked --quiet -- graph -f examples/shop >docs/.new
	mv docs/.new docs/graph.svg

.PHONY: book
book: $(MDBOOK) ## The documentation as a site in target/book/html, with all links checked
	$(CARGO) run --locked --quiet --example book -- stage
	$(MDBOOK) build target/book
	$(CARGO) run --locked --quiet --example book -- check

.PHONY: manifests
manifests: ## Write the admission policies from the table of annotations, install.yaml and the Helm chart from what kustomize renders
	tests/tools/build kubectl
	@mkdir -p target/manifests
	$(CARGO) run --locked --quiet --example admission-policies >manifests/.new
	mv manifests/.new manifests/components/admission/policies.yaml
	$(KUBECTL) kustomize manifests/helm/everything >target/manifests/everything.yaml
	$(KUBECTL) kustomize manifests/helm/secure >target/manifests/secure.yaml
	$(KUBECTL) kustomize manifests/namespaced/team-a >target/manifests/team-a.yaml
	$(KUBECTL) kustomize manifests/examples/traefik >target/manifests/proxies.yaml
	$(CARGO) run --locked --quiet --example helm-chart -- target/manifests/{everything,secure,team-a,proxies}.yaml
	{ echo '# Made by `make manifests`: kubectl apply --server-side -f manifests/install.yaml'; $(KUBECTL) kustomize manifests/install; } >manifests/.new
	mv manifests/.new manifests/install.yaml

##@ Release

# The architectures of the image: make image ARCHS="amd64 arm64"
ARCHS ?= $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(shell uname -m)))
IMAGE_ARCHIVE = $(CURDIR)/target/dist/waybill-$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)-image.tar

.PHONY: image
image: $(CARGO_ABOUT) $(CARGO_ZIGBUILD) ## The image as an OCI archive in target/dist; needs buildah, and no daemon
	release/build image $(ARCHS)

.PHONY: release
release: $(CARGO_ABOUT) $(CARGO_ZIGBUILD) $(CARGO_CYCLONEDX) ## Archives, image, SBOMs, licences, install.yaml and chart in target/dist/release
	release/build release amd64 arm64

.PHONY: test-image
test-image: image ## Run the image in crun, as the Deployment does, against a real API server
	tests/tools/build etcd kube-apiserver kubectl
	WAYBILL_IMAGE=$(IMAGE_ARCHIVE) $(CARGO) test --locked --test cluster image:: -- --ignored

.PHONY: test-release
test-release: ## Build the release twice, compare byte by byte, and check the contents
	release/test

##@ Tools

.PHONY: tools
tools: ## Build etcd, kube-apiserver, kubectl and Traefik's provider for the tests (minutes the first time)
	tests/tools/build

$(CARGO_DENY):
	$(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked --root $(TOOLS)

$(CARGO_ABOUT):
	$(CARGO) install cargo-about --version $(CARGO_ABOUT_VERSION) --locked --features cli --root $(TOOLS)

$(CARGO_CYCLONEDX):
	$(CARGO) install cargo-cyclonedx --version $(CARGO_CYCLONEDX_VERSION) --locked --debug --root $(TOOLS)

$(MDBOOK):
	$(CARGO) install mdbook --version $(MDBOOK_VERSION) --locked --debug --no-default-features --features search --root $(TOOLS)

# Zig is the C compiler and linker for musl on every architecture.
$(CARGO_ZIGBUILD):
	@mkdir -p $(TOOLS)/bin
	python3 -m venv $(TOOLS)/zig
	$(TOOLS)/zig/bin/pip install --quiet cargo-zigbuild==$(CARGO_ZIGBUILD_VERSION) ziglang==$(ZIG_VERSION)
	ln -sf ../zig/bin/cargo-zigbuild $@

.PHONY: prometheus
prometheus: $(PROMETHEUS) ## Prometheus and promtool, from the PATH or unpacked from Debian's package

# The package is unpacked, not installed: no service starts, and no right to install is needed.
$(PROMETHEUS):
	@mkdir -p $(TOOLS)/bin $(TOOLS)/debian/apt/lists/partial
	@if command -v prometheus >/dev/null && command -v promtool >/dev/null; then \
		ln -sf "$$(command -v promtool)" $(PROMTOOL); \
		ln -sf "$$(command -v prometheus)" $(PROMETHEUS); \
	elif command -v apt-get >/dev/null && command -v dpkg >/dev/null; then \
		cd $(TOOLS)/debian; \
		apt=(apt-get -qq -o Dir::State::lists="$$PWD/apt/lists" -o Dir::Cache="$$PWD/apt" -o APT::Sandbox::User=$$(id -un)); \
		"$${apt[@]}" update; \
		"$${apt[@]}" download prometheus; \
		dpkg -x prometheus_*.deb .; \
		rm -rf prometheus_*.deb apt; \
		cd ../bin; \
		ln -sf ../debian/usr/bin/promtool promtool; \
		ln -sf ../debian/usr/bin/prometheus prometheus; \
	else \
		echo "make: prometheus and promtool are not on the PATH, and there is no apt-get to fetch them with;" >&2; \
		echo "install Prometheus 2.42 or newer and try again" >&2; \
		exit 1; \
	fi

.PHONY: help
help: ## List these targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
