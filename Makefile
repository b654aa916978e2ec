# dvol: a table of contents. The work is in hack/, one script one job.

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR    ?=
export PREFIX SYSCONFDIR DESTDIR

.DEFAULT_GOAL := help
.PHONY: help build image demo run lab test soak bench lint fuzz fmt install uninstall clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

build: ## bin/dvold, a static binary
	@hack/build

image: ## the image dvol/dvold, which docker-compose.yml runs
	@hack/image

demo: ## see dvol work with real containers, in a private engine that leaves nothing behind
	@hack/demo

run: build ## serve in the foreground against this machine's own Docker (ARGS="--log-level debug")
	@hack/run $(ARGS)

lab: ## three Docker hosts and three Consul servers on this machine, to play with (hack/lab says how)
	@hack/lab up

test: ## everything: style, units, unit tests, conformance suites, end-to-end tests
	@hack/test

soak: ## random faults on hosts of the lab for hours, and what became of what was written (TIME=3h POOL=lease,gluster SEED=7: docs/proof.md)
	@hack/soak $(TIME)

bench: ## speed and memory beside named baselines (WRITE=1 puts the tables into docs/benchmarks.md, ONLY=part takes one alone)
	@hack/setup test && go run ./hack/bench $(if $(ONLY),-only $(ONLY)) $(if $(WRITE),-write docs/benchmarks.md)

lint: ## gofmt, go vet, staticcheck, shellcheck, systemd units
	@hack/lint

fuzz: ## fuzz each target for 30 s (TIME=10m)
	@hack/fuzz $(TIME)

fmt: ## format the Go code
	gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

install: ## binary, systemd units, sample configuration (PREFIX, SYSCONFDIR, DESTDIR)
	@hack/install

uninstall: ## what install put there; never volumes, never state
	@hack/uninstall

clean: ## remove what build made
	rm -rf bin
