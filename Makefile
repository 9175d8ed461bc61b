# SPDX-License-Identifier: Apache-2.0
# Every target is a short call into scripts/; docs/developing.md explains them.
#
#   make                 build all programs and the trees they come from, of Docker 29
#   make TRAIN=28        the same of Docker 28, in .build/bin/28; also with what follows
#   make stock           upstream's dockerd and docker from the same pins, for tests and bench
#   make previous        dockerd, docker and runc of an earlier commit, for tests that take over what it left
#   make demo            the main job in a VM with the patched kernel, with proof
#   make test            all tests; the last line is "N passed, N failed, N skipped"
#   make kernel          the VM's kernel
#   make tree            the patched sources in .build/src            [T=moby]
#   make refresh         write edits in .build/src back to our folders [T=moby]
#   make hook            let a patch own an upstream file             T= P= F=
#   make check           trees and patches agree, ledger, gofmt, vet
#   make export          a patch series per tree for git am or patch   [T=moby]
#   make rebase          carry the hooks to new upstreams, with prices TO=docker@v28.5.2 [DRY=1]
#   make unit            our unit tests, and upstream's of what we touch [T=moby] [P=./daemon] [RUN=]
#   make integration     tests against our daemon on this host        [RUN=]
#   make vm              the same in the VM                           [MODE=v1|v2] [RUN=]
#   make faults          1000 crashes of dockerd in the middle of an update
#   make race            parallel updates against a dockerd with the race detector
#   make vulns           known vulnerabilities of the programs, of a pinned state of the database
#   make bench           measures, and writes docs/performance.md     [PARTS="run net"]
#   make man             the manual pages of docker and runc, in .build/man
#   make install         install on this host, to be undone by uninstall [DESTDIR=] [PREFIX=/usr/local]
#   make install-test    install and uninstall inside a Debian, compared bit by bit
#   make check-host      what this host lacks, and what will work
#   make dist            tarball, .deb packages, SBOM, licences; dist-test: the same bytes twice
#   make deb-kernel      .deb packages of Debian's kernel with the controller; takes hours
#   make fuzz            every parser of ours                         [EXECS=1000000]
#   make upstream-tests  upstream's tests against the stock build's baseline; takes long
#   make cross           builds docker and dockerd for other systems than Linux
#   make docs-cli        the sessions of docs/cli.md from a run in the VM
#   make kernel-debug-test  the selftest in a kernel that checks itself; takes an hour

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

export PATH := $(CURDIR)/.build/go/bin:$(PATH)
export GOFLAGS := -buildvcs=false
export GOTOOLCHAIN := local

B := .build
BIN := $(B)/bin

# Docker's programs come from one train or the other, all else is shared. The second
# train's have a folder of their own, in which links stand for what is shared, so that
# neither train touches what the other has built.
TRAIN ?= 29
ifeq ($(TRAIN),29)
S :=
AT := $(BIN)
API_TREES := api client
else ifeq ($(TRAIN),28)
S := 28
AT := $(BIN)/28
API_TREES :=
# Another folder of programs for tests, and for install.
export GPU_CGROUP_BIN := $(CURDIR)/$(AT)
export FROM := $(CURDIR)/$(AT)
export MAN := $(CURDIR)/$(B)/man28
export COMPLETIONS := $(CURDIR)/$(B)/src/cli28/contrib/completion
else
$(error TRAIN=$(TRAIN): 29 or 28)
endif
export TRAIN
# Checkouts of upstream's to take in place of the pins.
export MOBY CLI

DOCKER_TREES := $(API_TREES) moby$(S) cli$(S)
GO_TREES := $(DOCKER_TREES) runc cgroups containerd stock-runc
DOCKER := $(AT)/dockerd $(AT)/docker-proxy $(AT)/docker
OURS := docker-init runc
STOCK := containerd containerd-shim-runc-v2 runc-stock
SHARED := $(OURS:%=$(BIN)/%) $(STOCK:%=$(BIN)/%)
LINKS := $(if $(S),$(patsubst $(BIN)/%,$(AT)/%,$(SHARED)))
PROGRAMS := $(DOCKER) $(SHARED) $(LINKS)
# Only what compares with upstream's Docker needs these.
STOCK_TREES := stock-moby$(S) stock-cli$(S)
STOCK_DOCKER := $(AT)/dockerd-stock $(AT)/docker-stock
MODE ?= v1
comma := ,
RUN ?= .

.PHONY: build
build: $(PROGRAMS)

.PHONY: stock
stock: $(STOCK_DOCKER)

# Tests take over what programs of this commit left on a host. Set it to the
# commit before a series of changes.
PREVIOUS := 358726a60f1883c79845d384649a07805b97b132
.PHONY: previous
previous: | packages
	@scripts/build/previous.sh $(PREVIOUS)

.PHONY: packages
packages:
	@scripts/packages.sh

# The recipe of a FORCEd target runs each time and leaves alone a file that
# would not change; make looks at its time afterwards, so nothing else is redone.
.PHONY: FORCE
FORCE:

$(B)/commit: FORCE | packages
	@scripts/build/commit.sh

TOOLS := $(BIN)/tree $(BIN)/vm $(BIN)/testsum
$(TOOLS): $(BIN)/%: FORCE | packages
	@go build -o $@ ./scripts/$*

$(GO_TREES:%=$(B)/src/%/.tree) &: FORCE $(BIN)/tree
	@$(BIN)/tree make $(GO_TREES) >$(B)/tree.log || { cat $(B)/tree.log; exit 1; }

$(STOCK_TREES:%=$(B)/src/%/.tree) &: FORCE $(BIN)/tree
	@$(BIN)/tree make $(STOCK_TREES) >$(B)/tree-stock.log || { cat $(B)/tree-stock.log; exit 1; }

# A tree has links to our files, or copies, so that what is in them does not change .tree.
own = $(shell find $(1) -type f)
$(AT)/dockerd $(AT)/docker-proxy: $(DOCKER_TREES:%=$(B)/src/%/.tree) $(call own,moby)
$(AT)/docker: $(DOCKER_TREES:%=$(B)/src/%/.tree) $(call own,cli moby)
$(BIN)/runc: $(B)/src/runc/.tree $(B)/src/cgroups/.tree $(call own,runc)
$(BIN)/runc-stock: $(B)/src/stock-runc/.tree
$(BIN)/containerd $(BIN)/containerd-shim-runc-v2: $(B)/src/containerd/.tree
$(AT)/dockerd-stock: $(B)/src/stock-moby$(S)/.tree
$(AT)/docker-stock: $(B)/src/stock-cli$(S)/.tree
$(DOCKER) $(OURS:%=$(BIN)/%): $(B)/commit
$(DOCKER) $(SHARED) $(STOCK_DOCKER): scripts/build.sh | $(B)/commit
	@scripts/build.sh $(@:$(BIN)/%=%)
$(LINKS): | $(SHARED)
	@mkdir -p $(AT) && ln -sf ../$(@F) $@

.PHONY: kernel
kernel: $(BIN)/tree
	@scripts/kernel/cached.sh

# Each fills what the other leaves of two cores: unpacking, configuring, linking.
.PHONY: build-and-kernel
build-and-kernel:
	@$(MAKE) -j2 kernel build

.PHONY: tree
tree: $(BIN)/tree
	@$(BIN)/tree make $(T)

.PHONY: refresh
refresh: $(BIN)/tree
	@$(BIN)/tree refresh $(T)

.PHONY: hook
hook: $(BIN)/tree
	@$(BIN)/tree hook $(T) $(P) $(F)

.PHONY: check
check: $(BIN)/tree
	@$(BIN)/tree check

.PHONY: export
export: $(BIN)/tree
	@$(BIN)/tree export $(T)

.PHONY: rebase
rebase: $(BIN)/tree
	@$(BIN)/tree rebase $(DRY:%=--dry-run) $(MOVED:%=--moved=%) $(TO)
	@$(if $(DRY),,$(MAKE) build)

# How often the fault tests kill dockerd: on the host, and in the VM, where it
# takes ten times as long to come back.
KILLS ?= 200
VM_KILLS ?= 3

# The same with two clients and a container that grows, on the host only.
CLIENT_KILLS ?= 25

# How often another program's hand takes a network limit away, on the host only.
NET_KILLS ?= 15

# How often the network tests start and end a limited container.
CYCLES ?= 50
VM_CYCLES ?= 5

# A fifth less work under emulation: fewer wake-ups across processors, fewer
# collections. The host runs the same tests with Go's defaults.
VM_GO ?= --env GOMAXPROCS=1 --env GOGC=400

# `make test` runs all suites at once: those of the host mostly wait, a VM keeps one
# core busy from beginning to end. What waits goes first, then the VM with the other
# version of cgroups, which has the most to do, then all that may fill the gaps.
VM_CPUS ?= 2
VM_NICE = $(if $(filter $*,$(HOST_CGROUPS)),15,5)

# How many bodies the API fuzz sends in the VM; 300 on the host.
VM_FUZZ ?= 100

# Each test says where it runs: integration/place. FULL=1 leaves out only what is on
# demand, a RUN not even that.
HOST_CGROUPS := $(if $(wildcard /sys/fs/cgroup/cgroup.controllers),v2,v1)
FULL ?=
# The last pass of each test on demand.
PASSES := $(CURDIR)/docs/passes.json

# Features of a place, besides those in integration/internal/require, whose lack fails
# a test instead of skipping it.
MUST ?=

# One suite each: scripts/testsum/unit.sh says what it runs.
SUITES := $(if $(S),docs28 moby28 cli28,ours docs api client moby cli runc cgroups)
# With the default train the other one is built and its units are tested; the rest of
# its tests is on demand: make test TRAIN=28.
SUITES_28 := $(if $(S),,docs28 moby28 cli28)
.PHONY: unit
unit: $(BIN)/testsum $(AT)/docker-proxy $(GO_TREES:%=$(B)/src/%/.tree)
	@code=0; for s in $(or $(T),$(SUITES)); do \
		case $$s in ours | docs*) again= ;; *) again=--again ;; esac; \
		$(BIN)/testsum run $$again unit-$$s -- scripts/testsum/unit.sh $$s $(P) || code=1; \
	done; exit $$code

host_suite = PLACE=host HOST_CGROUPS=$(HOST_CGROUPS) FULL=$(FULL) RUN='$(RUN)' MUST=$(MUST) RECORD=$(PASSES) KILLS=$(KILLS) CLIENT_KILLS=$(CLIENT_KILLS) NET_KILLS=$(NET_KILLS) CYCLES=$(CYCLES) $(BIN)/testsum run integration-$(1) -- go test -json -count=1 -timeout=1h $(2) ./integration
.PHONY: integration integration-host integration-net integration-net-class
integration integration-host integration-net integration-net-class: $(PROGRAMS) $(STOCK_DOCKER) previous kernel $(BIN)/testsum
integration:
	@$(call host_suite,host,-run '$(RUN)')
# `make test` has those of networks in two processes of their own: they mostly wait,
# and each has its own network namespaces. The second also gets what waits longest.
NET_CLASS := Net(Class|Fallback|LimitsHoldAgainstEachHand|TrafficGoesOn)
integration-host:
	@$(call host_suite,host,-skip Net)
integration-net:
	@$(call host_suite,net,-run Net -skip '$(NET_CLASS)')
integration-net-class:
	@$(call host_suite,net-class,-run '$(NET_CLASS)')

.PHONY: vm vm-v1 vm-v2
vm: vm-$(MODE)
vm-v1 vm-v2: vm-%: $(BIN)/testsum vm-image
	@$(BIN)/testsum run --text --prefix '$* ' integration-vm-$* -- $(AT_ONCE:1=nice -n $(VM_NICE)) $(BIN)/vm --bin $(AT) --mode $* --cpus $(VM_CPUS) --timeout 1h \
		--env PLACE=vm-$* --env HOST_CGROUPS=$(HOST_CGROUPS) --env FULL=$(FULL) --env 'RUN=$(RUN)' --env MUST=$(MUST) --env KILLS=$(VM_KILLS) --env CYCLES=$(VM_CYCLES) --env NET_UNIT=100000 --env FUZZ=$(VM_FUZZ) $(VM_GO) -- integration.test -test.v -test.run '$(RUN)'

.PHONY: vm-image
vm-image: $(PROGRAMS) $(STOCK_DOCKER) kernel $(BIN)/vm
	@$(BIN)/vm --bin $(AT) --image >/dev/null

.PHONY: faults
faults:
	@$(MAKE) integration RUN='Crash|Fault' KILLS=1000 CLIENT_KILLS=1000 NET_KILLS=1000

# Not in `make test` yet: the list of those that are known to stay is empty, so it fails.
.PHONY: vulns
vulns: $(PROGRAMS) $(B)/vulns/db/index/modules.json
	@go run ./scripts/vulns $(filter-out $(BIN)/docker-init,$(PROGRAMS))
$(B)/vulns/db/index/modules.json: scripts/vulns/tools/go.mod scripts/vulns/database.sh
	@scripts/vulns/database.sh

.PHONY: race
race: $(PROGRAMS)
	@scripts/testsum/race.sh

# Every suite runs, whatever the others came to; report fails if one did.
.PHONY: test test-at-once check-suite unit-suites
test: build-and-kernel stock previous $(TOOLS)
	@rm -rf $(B)/results
	@$(BIN)/tree make linux # check looks at its drivers, also where a kernel was in the cache
	@$(BIN)/vm --bin $(AT) --image >/dev/null
	-@$(MAKE) -k -j6 test-at-once AT_ONCE=1
	@$(BIN)/testsum report $(if $(filter .,$(RUN)),--passes $(PASSES)) check $(SUITES:%=unit-%) $(SUITES_28:%=unit-%) integration-host integration-net integration-net-class integration-vm-v1 integration-vm-v2
test-at-once: vm-v2 vm-v1 integration-host integration-net integration-net-class unit-suites
check-suite: $(BIN)/testsum $(BIN)/tree
	-@nice -n 15 $(BIN)/testsum run --plain check -- $(BIN)/tree check
unit-suites: check-suite
	@nice -n 15 $(MAKE) unit
	$(if $(SUITES_28),@nice -n 15 $(MAKE) TRAIN=28 build unit)

.PHONY: demo
demo: build-and-kernel $(BIN)/vm
	@$(BIN)/vm --bin $(AT) --mode v1 -- demo

.PHONY: bench
bench: build kernel stock $(BIN)/vm
	@scripts/performance/bench.sh $(PARTS)

.PHONY: kernel-debug-test
kernel-debug-test: $(BIN)/tree
	@scripts/kernel/debug-test.sh

# Made of docker itself.
.PHONY: man
man: $(B)/man$(S)
$(B)/man$(S): scripts/docs/man.sh $(AT)/docker $(BIN)/runc
	@scripts/docs/man.sh

export DESTDIR PREFIX FORCE
.PHONY: install uninstall check-host debian-root install-test
install: $(PROGRAMS) man
	@scripts/host/install.sh install
uninstall:
	@scripts/host/install.sh uninstall
check-host:
	@PATH=$(CURDIR)/$(AT):$$PATH scripts/host/check-host.sh
debian-root:
	@scripts/host/debian-root.sh
install-test: debian-root
	@$(MAKE) integration RUN=InstallInDebian MUST=debian

.PHONY: dist dist-test deb-kernel fuzz upstream-tests docs-cli cross
cross: $(DOCKER_TREES:%=$(B)/src/%/.tree)
	@scripts/build/cross.sh
dist: $(PROGRAMS) man
	@scripts/dist/dist.sh
dist-test: dist debian-root
	@$(MAKE) integration RUN=PackagesInDebian MUST=debian,dist
	@scripts/dist/twice.sh $(P)
deb-kernel: $(BIN)/tree
	@scripts/kernel/deb-kernel.sh
fuzz: $(GO_TREES:%=$(B)/src/%/.tree)
	@scripts/testsum/fuzz.sh $(EXECS)
upstream-tests: $(PROGRAMS) $(STOCK_DOCKER) $(GO_TREES:%=$(B)/src/%/.tree)
	@$(BIN)/tree make $(if $(S),,stock-api stock-client) stock-cgroups >/dev/null
	@scripts/upstream/run.sh $(T)

docs-cli: $(PROGRAMS) kernel $(BIN)/vm
	@scripts/docs/cli.sh

.PHONY: clean
clean:
	rm -rf $(B)
