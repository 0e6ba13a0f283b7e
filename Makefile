# The commands of this project. `make help` lists them.

CARGO_TARGET_DIR ?= $(HOME)/.cache/bellwether/target
export CARGO_TARGET_DIR
# One build at a time, without what only helps incremental work on one crate.
NEXTEST = cargo nextest run --workspace --locked --status-level slow --final-status-level flaky $(if $(CI),--profile ci)
SEEDS ?= 1..200
STATES ?= 20000000

.PHONY: help demo test verify lint fix docs reference audit sim model bench-drill bench-failover chaos soak test-matrix prerequisites test-prerequisites

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: prerequisites ## three nodes on this machine, with a writer and a live table (ARGS=--drill for the rehearsed failures)
	cargo build --release --locked -p bellwether
	$(CARGO_TARGET_DIR)/release/bellwether demo $(ARGS)

test: test-prerequisites lint ## everything that must hold before a change is merged
	scripts/timed "build" cargo build --workspace --locked --bins
	scripts/timed "tests" $(NEXTEST)
	scripts/timed "simulation" scripts/simulate-some
	scripts/timed "fuzzing" scripts/fuzz-some

lint: ## formatting and lints, warnings denied
	scripts/timed "formatting" cargo fmt --all --check
	scripts/timed "lints" cargo clippy --workspace --all-targets --locked -- -D warnings

verify: test docs ## what CI runs, and the documentation

fix: ## format, and apply what clippy can fix
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

docs: ## the API documentation, warnings denied; and the book, if mdbook is installed
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@if command -v mdbook >/dev/null; then mdbook build docs --dest-dir $(CARGO_TARGET_DIR)/book; \
	else echo "mdbook is not installed: the book was not built (cargo install mdbook)"; fi

reference: ## write the pages of the book that are made from the code
	UPDATE_REFERENCE=1 cargo test -q --locked -p bellwether reference_pages

audit: ## licences, bans, sources and advisories of dependencies, and spelling (cargo-deny and typos must be installed; needs the network)
	typos
	cargo deny --locked check bans licenses sources
	cargo deny --locked check advisories

sim: ## simulate whole clusters: make sim SEEDS=FROM..TO
	cargo run --release --locked -p bellwether-sim -- --seeds $(SEEDS)

.PHONY: fuzz-proxy sql-corpus proxy-regress driver-suites
fuzz-proxy: ## hostile input for the proxy's framing, authentication, sessions and SQL scanner (not in CI; CASES=200000)
	PROPTEST_CASES=$(or $(CASES),200000) cargo test --locked -p bellwether-pgwire -p bellwether-sql -p bellwether-proxy -- hostile oracle

sql-corpus: test-prerequisites ## PostgreSQL's own regression tests: our reads on a real hot standby (not in CI; FILES="select join")
	scripts/sql-corpus $(FILES)

proxy-regress: test-prerequisites ## PostgreSQL's own regression tests through the proxy (root; after sql-corpus; not in CI; MODES="tcp session")
	scripts/proxy-regress $(MODES)

driver-suites: test-prerequisites ## test suites of psycopg2, pg8000, asyncpg and tokio-postgres through the proxy, compared with direct (root; pip; not in CI; MODES="tcp session")
	scripts/driver-suites $(MODES)

model: ## check the protocol of quorum take-over in small clusters: make model STATES=20000000
	cargo run --release --locked -p bellwether-model -- $(STATES)

bench-drill: prerequisites ## outages of writes in the demo's story of failures, ten runs (not in CI)
	cargo build --release --locked -p bellwether
	scripts/bench-drill $(ARGS)

bench-failover: test-prerequisites ## outages of writes on whole hosts, beside Patroni with etcd (root, an hour; not in CI)
	cargo build --release --locked -p bellwether -p bellwether-chaos
	$(CARGO_TARGET_DIR)/release/bellwether-chaos bench $(ARGS)

soak: test-prerequisites ## half an hour on a busy machine with latency spikes: nobody may take over (root; not in CI)
	cargo build --release --locked -p bellwether -p bellwether-chaos
	$(CARGO_TARGET_DIR)/release/bellwether-chaos soak $(ARGS)

chaos: test-prerequisites ## harm whole hosts under load and prove that nothing was lost (root; ARGS="--nodes 5 --rounds 100 --seed 7")
	cargo build --release --locked -p bellwether -p bellwether-chaos
	$(CARGO_TARGET_DIR)/release/bellwether-chaos run $(ARGS)
	$(CARGO_TARGET_DIR)/release/bellwether-chaos run --stack bellwether-etcd $(ARGS)
	$(CARGO_TARGET_DIR)/release/bellwether-chaos alarms

.PHONY: bench-cost bench-proxy
bench-proxy: test-prerequisites ## what the proxy costs, beside PgBouncer and HAProxy (root, half an hour; not in CI; ARGS="--seconds 2 --cells TLS")
	cargo build --release --locked -p bellwether-proxy --example alone
	python3 bench/proxy $(ARGS)

bench-cost: test-prerequisites ## what agents cost on etcd, ours beside Patroni's: twenty minutes (not in CI; ARGS="60 2" for two minutes with two nodes)
	cargo build --profile dist --locked -p bellwether
	scripts/bench-cost $(ARGS)

test-matrix: test-prerequisites ## the tests with real PostgreSQL on every supported version
	scripts/test-matrix

prerequisites: ## install what is missing (PostgreSQL, cargo-nextest), and say so
	@scripts/prerequisites

test-prerequisites: ## the same with the stores that tests run against (etcd, Consul, ZooKeeper)
	@scripts/prerequisites stores
