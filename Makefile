# The usual targets. CI runs .ci/run, which calls the same commands.
GO ?= go
GOLANGCI_LINT_VERSION = v2.15.0
ACTIONLINT_VERSION = v1.7.12
FUZZTIME ?= 5s
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
VERSION_PACKAGE = github.com/prometheus/common/version
LDFLAGS = -X $(VERSION_PACKAGE).Version=$(VERSION) \
	-X $(VERSION_PACKAGE).Revision=$(shell git rev-parse HEAD 2>/dev/null) \
	-X $(VERSION_PACKAGE).Branch=$(shell git rev-parse --abbrev-ref HEAD 2>/dev/null) \
	-X $(VERSION_PACKAGE).BuildDate=$(shell git log -1 --format=%cI 2>/dev/null)

.PHONY: all build test race long lint fuzz bench generate rules e2e soak image clean

all: lint test build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o balance_exporter -ldflags "$(LDFLAGS)" .

test:
	$(GO) test ./...

race:
	$(GO) test -race -timeout 30m ./...

# The tests at their long setting.
long:
	.ci/long

lint:
	$(GO) vet -tags soak ./internal/exporter
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION) run
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION)

fuzz:
	.ci/fuzz $(FUZZTIME)

bench:
	$(GO) test -run '^$$' -bench . -benchtime 3x ./...

# Files that are made from others.
generate:
	$(GO) test ./collector -run TestDocumentation -update
	cd e2e/chart && $(GO) test . -run TestExamples -update

e2e:
	cd e2e && $(GO) test -timeout 30m ./...
	cd e2e/chart && $(GO) test ./...

soak:
	$(GO) test -tags soak -run TestSoak -timeout 30m -v ./internal/exporter

image:
	docker build -t balance_exporter .

clean:
	rm -f balance_exporter
