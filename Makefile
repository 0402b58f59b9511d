# make demo   build everything and run a container in a VM of its own
# make test   every test
# make help   the other targets

SHELL := /bin/sh
GO    ?= go
CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/byre-build
BOOT  := bin/LinuxBootFiles
IMAGE := $(CACHE)/demo-image

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
SOURCES := $(shell find . -name '*.go' -not -path './bin/*' 2>/dev/null) go.mod go.sum

export BYRE_BOOT_FILES := $(CURDIR)/$(BOOT)
export BYRE_TEST_IMAGE := $(IMAGE)
export BYRE_TEST_KERNEL := $(CACHE)/kernel

.PHONY: build demo test vfio-test wine-test race lint fuzz conformance e2e bench clean help deps boot image vet
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps:
	@hack/deps.sh

build: deps bin/byre bin/gcs bin/runc ## the programs, into bin/

bin/byre: $(SOURCES)
	@echo "building byre" >&2
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/byre

bin/gcs: $(SOURCES)
	@echo "building the guest agent" >&2
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $@ ./cmd/gcs

bin/runc: tools/runc/go.mod tools/runc/go.sum | deps
	@echo "building runc" >&2
	@hack/runc.sh $@

boot: build $(BOOT)/manifest.json ## the boot files, into bin/LinuxBootFiles

$(BOOT)/manifest.json: bin/gcs bin/runc | bin/byre
	@kernel=$$(hack/kernel.sh $(CACHE)/kernel) && \
		bin/byre boot build --kernel-package "$$kernel" --agent bin/gcs --runtime bin/runc $(BOOT)

image: deps $(IMAGE)/index.json

$(IMAGE)/index.json: hack/mkimage/main.go
	@echo "building an image of Debian's busybox" >&2
	@mkdir -p $(CACHE)
	@$(GO) run ./hack/mkimage -busybox /bin/busybox -o $(IMAGE)

demo: boot image ## run a container in a VM and say where the time went
	@bin/byre run --rm --timing $(IMAGE) sh -c 'echo "Hello from a machine of my own."; uname -snr'

vfio-test: boot ## give a PCI device to a VM, in a VM that has an IOMMU: takes minutes
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/vfio ./hack/vfio
	@kernel=$$(hack/kernel.sh $(CACHE)/kernel) && hack/vfio.sh bin/vfio $(BOOT) "$$kernel"

test: boot image vet ## every test
	@hack/test.sh

wine-test: deps ## the tests of the Windows half, under Wine
	@hack/wine.sh

vet: ## vet for every platform that builds
	@echo "vetting for linux/amd64, linux/arm64 and windows/amd64" >&2
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	@$(GO) vet ./...
	@GOOS=linux GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...
	@GOOS=windows GOARCH=amd64 CGO_ENABLED=0 $(GO) vet ./...

race: deps ## the tests that boot no VM, 20 times, with the race detector
	$(GO) test -race -count=20 $$($(GO) list ./... | grep -v /test)

# What no program for Windows has in it is linted for Linux only: half of it is
# not used there.
lint: ## golangci-lint, for Linux and for Windows
	@lint=$$($(GO) tool -modfile=tools/lint/go.mod -n golangci-lint) && \
		echo "linting for linux" >&2 && $$lint run ./... && \
		echo "linting for windows" >&2 && \
		GOOS=windows CGO_ENABLED=0 $$lint run $$(GOOS=windows $(GO) list -deps -f '{{.Dir}}' ./cmd/byre ./test/wine/... ./hns/... | grep '^$(CURDIR)/')

fuzz: ## each fuzz target for FUZZTIME (default 30s)
	@hack/fuzz.sh $(or $(FUZZTIME),30s)

conformance: boot ## what an engine must do, on every engine of this host
	$(GO) test -v -count=1 -run 'TestEngine|TestConformance' ./hcs/... ./internal/engine/...

e2e: boot image ## the tests that boot VMs
	$(GO) test -v -count=1 -timeout 30m ./test/...

bench: boot image ## ratios against bare QEMU, and bench/results.json
	@$(GO) run ./bench

clean: ## what was built here; the cache stays
	rm -rf bin bench/results.json
