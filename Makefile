GO       ?= go
PREFIX   ?= /usr/local
SCL      ?= /usr/share/syslog-ng/include/scl
FUZZTIME ?= 10s

NEED := scripts/need.sh
# gcc comes with the target "needs", which runs before this is looked at.
RACE  = $(if $(shell command -v gcc),-race)
LINT  = $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: all build needs test lint fuzz demo packages install clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/ . ./cmd/wsreceive

needs:
	@$(NEED)

test: needs
	$(GO) vet ./...
	CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) -shuffle=on -timeout 20m ./...

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

demo: build
	@$(NEED) syslog-ng
	@$(GO) run ./e2e/demo

packages:
	scripts/packages.sh

# By rename: at no moment syslog-ng finds no program there, or half of one.
install:
	@to=$(DESTDIR)$(PREFIX)/bin; for p in wsrelay wsreceive; do \
		install -D bin/$$p $$to/.$$p.new && mv $$to/.$$p.new $$to/$$p || exit 1; \
	done
	install -d $(DESTDIR)$(SCL)/websocket
	sed 's|/usr/bin/wsrelay|$(PREFIX)/bin/wsrelay|' syslog-ng/websocket/plugin.conf >$(DESTDIR)$(SCL)/websocket/plugin.conf

clean:
	rm -rf bin dist

# What takes minutes to hours, or wants more than Go: soak, torture-*, test-*, bench*.
include long.mk
