# Go is looked for in PATH, then where its own archive puts it.
GO       ?= $(or $(shell command -v go 2>/dev/null),$(wildcard /usr/local/go/bin/go),go)
PREFIX   ?= /usr/local
SCL      ?= /usr/share/syslog-ng/include/scl
UNITS    ?= /etc/systemd/system
FUZZTIME ?= 10s
PACKAGES ?= ./...

NEED := scripts/need.sh
# gcc comes with the target "deps", which runs before this is looked at.
RACE  = $(if $(shell command -v gcc),-race)
LINT  = $(GO) tool -modfile=tools/go.mod golangci-lint

# Scripts and tests call go by its name. The clone may be another user's (sudo,
# containers): git is to trust this one, or Go cannot ask it for the version.
export GO
export PATH := $(patsubst %/,%,$(dir $(filter /%,$(GO)))):$(PATH)
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)

.PHONY: all build help deps test test-fresh lint docs fuzz demo packages install clean

all: build

build: ## build bin/wsrelay and bin/wsreceive
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags "-s -w" -o bin/ . ./cmd/wsreceive

help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | column -t -s @ 2>/dev/null || sed -n 's/^\([a-z][a-z-]*\):.*## /  make \1: /p' $(MAKEFILE_LIST)

deps: ## name the programs that the tests use; as root on Debian or Ubuntu, install the small ones
	@$(NEED)

test: deps ## run the tests; calls deps first
	$(GO) vet $(RACE) $(PACKAGES)
	CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) -shuffle=on -timeout 20m $(PACKAGES)

test-fresh: ## run what CI runs: the README's commands in clean Debian roots, and all else; root
	.ci/run

lint: ## run the linters
	$(LINT) run ./...
	shellcheck scripts/*.sh .ci/run

docs: ## write the generated parts of the man pages, and the completions
	$(GO) test ./internal/cli/wsrelay ./internal/cli/wsreceive -run Manual -update

fuzz: ## fuzz each target for FUZZTIME (10s)
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

demo: ## a private syslog-ng, an outage, and the count of what arrived
	@$(NEED) syslog-ng
	@$(MAKE) --no-print-directory build
	@CGO_ENABLED=0 $(GO) run -trimpath ./test/demo

packages: ## build .deb and .rpm into dist/
	scripts/packages.sh

install: ## install the programs, manuals, completions, the block, and the unit of wsreceive
	scripts/install.sh "$(DESTDIR)" "$(PREFIX)" "$(SCL)" "$(UNITS)"

clean: ## remove bin/ and dist/
	rm -rf bin dist

# What takes minutes to hours, or wants more than Go: soak, torture-*, test-*, bench*.
include long.mk
