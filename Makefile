GO       ?= go
PREFIX   ?= /usr/local
SCL      ?= /usr/share/syslog-ng/include/scl
FUZZTIME ?= 10s

NEED := scripts/need.sh
# gcc comes with the target "needs", which runs before this is looked at.
RACE  = $(if $(shell command -v gcc),-race)
LINT  = $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: all build needs packages test soak test-engines torture-keeper torture-queue lint fuzz bench bench-quick bench-compare demo install clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/ . ./cmd/wsreceive

needs:
	@$(NEED)

test: needs
	$(GO) vet ./...
	CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) -shuffle=on ./...

# The outages of the end-to-end test last 10 s instead of 1 s.
soak: needs
	SOAK=10s $(GO) test -count=1 -v -run TestChain ./e2e

# Thousands of kills of the worker; resumable, TORTURE_DIR has the count. Half an hour; TMPDIR=/dev/shm helps.
torture-keeper: needs
	KILLS=20000 $(GO) test -count=1 -v -timeout 3h -run Killed ./intake
	TORTURE=long $(GO) test -count=1 -v -timeout 1h -run TestUpgrade_May .
	KILLS=200 UPGRADES=20 EARLY=1000 $(GO) test -count=1 -v -timeout 1h -run "Pipe|Stop" ./e2e

# Every file call, every bit, long histories, and each safeguard taken out in turn.
torture-queue:
	TORTURE=long $(GO) test -count=1 -timeout 0 ./buffer -rapid.checks=20000 -rapid.steps=60 -rapid.nofailfile
	$(GO) test -run '^$$' -fuzz '^FuzzOpen$$' -fuzztime 10m ./buffer
	scripts/mutate

# torture-fs, -kill, -full, -backlog: the long forms; resumable, TORTURE_DIR has the counts.
# -network: half an hour of bad network. -herd: 10,000 senders.
torture-network: IN = network
torture-herd: IN = herd
torture-%: needs
	TORTURE=long $(GO) test -count=1 -v -timeout 0 -run '(?i)^test$*_' ./e2e/$(or $(IN),torture)

# Installs, upgrades under load and removes the packages in a clean Debian, and
# does there what README.md and docs/operations.md say; root.
test-packages:
	scripts/chroot.sh
	scripts/readme.sh

# Against real engines, fetched and started for it.
test-engines:
	scripts/engine.sh test opensearch
	scripts/engine.sh test elasticsearch

lint:
	$(LINT) run ./...
	shellcheck scripts/*.sh .ci/run

fuzz:
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

bench: needs
	$(GO) run ./bench -to bench/results/bench -docs docs/benchmarks.md

bench-quick: needs
	$(GO) run ./bench -quick -to bench/results/quick

bench-compare:
	scripts/bench-compare.sh $(BASE)

demo: build
	@$(NEED) syslog-ng
	@$(GO) run ./e2e/demo

packages:
	scripts/packages.sh

install: build
	install -D -t $(DESTDIR)$(PREFIX)/bin bin/wsrelay bin/wsreceive
	install -d $(DESTDIR)$(SCL)/websocket
	sed 's|/usr/bin/wsrelay|$(PREFIX)/bin/wsrelay|' syslog-ng/websocket/plugin.conf >$(DESTDIR)$(SCL)/websocket/plugin.conf

clean:
	rm -rf bin
