.PHONY: soak soak-live torture-keeper torture-queue torture-model torture-fuzz torture-mutate torture-journal torture-data-stream bench-queue test-packages dist test-dist images test-images test-engines bench-engine show-nginx show-stack show-stack-cost show-stack-openresty bench bench-docs bench-quick bench-scarce bench-search bench-compare vulns

# The outages of the end-to-end test last 10 s instead of 1 s.
soak: deps
	SOAK=10s $(GO) test -count=1 -v -run TestChain ./test/e2e

# A tab of chromium that shows 500 new lines a second for LIVE (30m): its CPU time and memory.
soak-live:
	@$(NEED) chromium
	SOAK_LIVE=$(or $(LIVE),30m) $(GO) test -count=1 -v -timeout 0 -run TestBrowser_SoakLive ./receiver/web

# Thousands of kills of the worker; resumable, TORTURE_DIR has the count. Half an hour; TMPDIR=/dev/shm helps.
torture-keeper: deps
	KILLS=20000 $(GO) test -count=1 -v -timeout 3h -run Killed ./intake
	TORTURE=long $(GO) test -count=1 -v -timeout 1h -run TestUpgrade_May ./internal/cli/wsrelay
	KILLS=200 UPGRADES=20 EARLY=1000 $(GO) test -count=1 -v -timeout 1h -run "Pipe|Stop" ./test/e2e

# Every file call, every bit, long histories of the queue. After it, ten minutes
# of fuzzing for each target, and each safeguard taken out in turn.
torture-queue: torture-model torture-fuzz torture-mutate

torture-model:
	TORTURE=long $(GO) test -count=1 -timeout 0 ./buffer -rapid.checks=20000 -rapid.steps=60 -rapid.shrinktime=0s -rapid.nofailfile

torture-fuzz:
	$(MAKE) fuzz FUZZTIME=10m

torture-mutate:
	scripts/mutate

# The log database: 2,000 kills; its journal alone: every file call, long histories, 2,000 kills.
torture-journal:
	KILLS=2000 $(GO) test -count=1 -v -timeout 0 -run TestStore_Killed ./receiver/store/logs
	TORTURE=long KILLS=2000 $(GO) test -count=1 -v -timeout 0 ./receiver/store/journal -rapid.checks=20000 -rapid.steps=60 -rapid.nofailfile

# A data stream under 100,000 lines: 20 rollovers, and 20 kills of the receiver and
# the worker in turn. torture-data-stream-elasticsearch9: on that engine.
torture-data-stream: torture-data-stream-opensearch3
torture-data-stream-%:
	@$(NEED) java mvn
	ROLLOVERS=$(or $(ROLLOVERS),20) scripts/engine.sh test $* -v -timeout 30m -run TestEngine_DataStream

# wsrelay's queue beside others', and the bare disk: ratios.
bench-queue:
	cd bench/queue && $(GO) run .

# torture-fs, -kill, -full, -backlog, -ground: the long forms; resumable, TORTURE_DIR has the counts.
# -store: the log database: 500 hard shutdowns of ext4 and of XFS, 2,000 kills, one at each system call, full disks, changed directories; two hours.
# -remote: a VictoriaLogs server behind the journal, 600 kills of either or both; an hour and a half.
# -network: half an hour of bad network. -fleet: 10,000 senders.
torture-network: IN = network
torture-fleet: IN = fleet
torture-%: deps
	TORTURE=long $(GO) test -count=1 -v -timeout 0 -run '(?i)^test$*_' ./test/$(or $(IN),torture)

# Installs, upgrades under load and removes the packages in a clean Debian, and
# does there what README.md, docs/operations.md and the tutorial say, and the README
# once more in the next Debian; root.
test-packages:
	scripts/chroot.sh
	scripts/readme.sh
	scripts/readme.sh "" README.md examples/stack/README.md
	RELEASE=trixie scripts/readme.sh "" README.md

# Builds the source packages of Debian and rpm offline, twice, checks, tests and
# installs them; root on Debian. "make dist" only makes them.
dist: ## make source packages into dist/
	scripts/dist.sh

test-dist:
	scripts/test-dist.sh

# OCI images without a container engine; test-images builds them twice, starts
# them and sends lines through them; root on Debian.
images: ## build OCI images into dist/
	scripts/images.sh

test-images:
	cd tools/image && $(GO) test ./...
	scripts/test-images.sh

# Against real engines, fetched and started for it: the fault table, and the
# chain on an engine. A JDK from 21 on, Maven, 1.5 GiB of memory.
test-engines: test-engine-opensearch test-engine-opensearch3 test-engine-elasticsearch test-engine-elasticsearch9
test-engine-%:
	@$(NEED) java mvn nginx
	scripts/engine.sh test $* $(if $(CI),-short)

# The receiver beside loaders that do nothing but send, with gzip off and on:
# OpenSearch 2.19; bench-engine-opensearch3 and so on.
bench-engine: bench-engine-opensearch
bench-engine-%:
	@$(NEED) java mvn
	scripts/engine.sh bench $*

# SHOW_REQUESTS (100000) to nginx, SHOW_RATE (1000) a second, until they are found
# in the log database, or in an engine: show-nginx-opensearch.
show-nginx:
	@$(NEED) nginx syslog-ng ab
	SHOW_REQUESTS=$(or $(SHOW_REQUESTS),100000) $(GO) test -count=1 -v -timeout 0 -run '^TestShow_NginxToLogDatabase$$' ./test/e2e
show-nginx-%:
	@$(NEED) java mvn nginx syslog-ng ab
	scripts/engine.sh show $*

# The shop of examples/stack: REQUESTS at RATE a second, first in peace, then with
# kills, restarts and rotated logs, then the same where syslog-ng reads files only.
# Root on Debian; STACK_VENV keeps what PyPI has.
show-stack:
	@$(NEED) nginx syslog-ng redis-server supervisord socat pg_ctlcluster gcc strace curl /usr/bin/python3-config
	@for run in "" STACK_FAULTS=1 "STACK_FAULTS=1 STACK_FILES=1"; do \
		env $$run STACK_REQUESTS=$(or $(REQUESTS),20000) STACK_RATE=$(or $(RATE),150) \
		$(GO) test -count=1 -v -timeout 0 -run '^TestShow_Stack$$' ./test/e2e || exit; \
	done

# What shipping takes at 100 requests a second, beside syslog-ng alone and rsyslog:
# free, and in a control group, CPU percent of a core (25) and MEMORY MiB (64); root.
show-stack-cost:
	@$(NEED) syslog-ng
	STACK_CPU=$(or $(CPU),25) STACK_MEMORY=$(or $(MEMORY),64) STACK_COST=$(or $(COST),60s) $(GO) test -count=1 -v -timeout 0 -run '^TestShow_StackCost$$' ./test/e2e
# Through the receiver of examples/openresty, in peace.
show-stack-openresty:
	@$(NEED) nginx /usr/share/lua/5.1/nginx/websocket/server.lua /usr/share/lua/5.1/cjson/util.lua syslog-ng redis-server supervisord socat pg_ctlcluster gcc strace curl /usr/bin/python3-config
	STACK_STORE=openresty STACK_REQUESTS=$(or $(REQUESTS),2000) STACK_RATE=$(or $(RATE),100) $(GO) test -count=1 -v -timeout 0 -run '^TestShow_Stack$$' ./test/e2e
show-stack-%:
	@$(NEED) java mvn nginx syslog-ng redis-server supervisord socat pg_ctlcluster gcc strace curl /usr/bin/python3-config
	STACK_REQUESTS=$(or $(REQUESTS),20000) STACK_RATE=$(or $(RATE),150) scripts/engine.sh show-stack $*

# Full runs are kept in bench/results, one of each machine; bench-docs writes what they say
# into docs/benchmarks.md and README.md. BENCH_FLUENT_BIT, BENCH_VECTOR: paths of more peers.
bench: deps
	$(GO) run ./bench -keep

bench-docs:
	$(GO) run ./bench -docs

bench-quick: deps
	$(GO) run ./bench -quick

# What --compress auto is worth where processor, disk or link is scarce; 25 minutes, root for the slow disk.
bench-scarce: deps
	$(GO) run ./bench -scarce

# SCALE lines (10,000,000) in the engine's library alone, in the log database, and in VictoriaLogs' own server: CPU, disk, searches.
bench-search:
	SCALE=$(or $(SCALE),10000000) $(GO) test -count=1 -v -timeout 0 -run '^TestScale$$' ./receiver/store/logs

bench-compare:
	scripts/bench-compare.sh $(BASE)

# Whether the programs call code with a known fault (govulncheck).
vulns:
	scripts/vulns.sh
