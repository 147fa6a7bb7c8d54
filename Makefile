# Skerry. `make help` lists the targets; `make demo` and `make test` are the two that a new user needs.
SHELL      := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION  ?= $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
BIN      := $(CURDIR)/build/bin
LDFLAGS  := -s -w -X github.com/skerry/skerry.Version=$(VERSION)
GOBUILD  := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"
say       = @printf '\033[1m==> %s\033[0m\n' "$(1)"

TEST     ?= ./...
N        ?= 20
ONCE     ?=
AGENTS   ?= 1000
SEEDS    ?= 1000
SEED     ?=
WORLD    ?=
FLEET    ?=
IMAGE_TAG ?= 0.1.0
VULNS    ?=
PODS     ?=
CHAOS    ?= 10m
RIG      ?=
COMMA    := ,
ARCHES   ?= armhf arm64 amd64

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9%-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- what a machine needs -------------------------------------------------------------------------------------------

.PHONY: deps deps-arm deps-boot deps-qemu deps-networking
deps: ## install the Debian packages that the demo and the integration tests run on
	@scripts/deps.sh rig
deps-arm:
	@scripts/deps.sh arm
deps-boot:
	@scripts/deps.sh boot
deps-networking:
	@scripts/deps.sh networking
deps-qemu:
	@scripts/deps.sh qemu

# --- building -------------------------------------------------------------------------------------------------------

.PHONY: build build-host deb kube rig containerd2 crio metrics-server modbus-peers opcua-peers push-peers debian-root
build: ## build skerryd for ARMv7, ARMv8 and amd64, the relay and skerryctl for ARMv8 and amd64
	$(call say,skerryd for linux/arm (GOARM=7))
	@GOOS=linux GOARCH=arm GOARM=7 $(GOBUILD) -o build/linux-armv7/ ./firmware/cmd/skerryd
	$(call say,skerryd skerry-relay skerryctl for linux/arm64)
	@GOOS=linux GOARCH=arm64 $(GOBUILD) -o build/linux-arm64/ ./firmware/cmd/skerryd ./relay/cmd/skerry-relay ./relay/cmd/skerryctl
	$(call say,skerryd skerry-relay skerryctl for linux/amd64)
	@GOOS=linux GOARCH=amd64 $(GOBUILD) -o build/linux-amd64/ ./firmware/cmd/skerryd ./relay/cmd/skerry-relay ./relay/cmd/skerryctl
	@ls -l build/linux-*/* | awk '{printf "    %6.1f MB  %s\n", $$5/1e6, $$9}'

build-host:
	$(call say,building skerryd skerry-relay skerryctl skerry-sim for this machine)
	@$(GOBUILD) -o $(BIN)/ ./firmware/cmd/skerryd ./relay/cmd/skerry-relay ./relay/cmd/skerryctl ./hil-tests/simulator/cmd/skerry-sim

BOARD    ?= qemu-armv7
MIRROR   ?=
LOCK     ?=
KEYRING  ?=
SIGN_KEY ?=
image_arch = $(if $(filter %armv7 beaglebone-black,$(BOARD)),armv7,arm64)

.PHONY: image
image: ## a flashable image: BOARD=qemu-armv7|qemu-arm64, in build/images (LOCK=FILE: the same Debian packages again; docs/flashing.md)
	@scripts/deps.sh image
	$(call say,skerryd and the initrd for $(BOARD))
	@GOOS=linux GOARCH=$(if $(filter armv7,$(image_arch)),arm GOARM=7,arm64) $(GOBUILD) -o build/linux-$(image_arch)/ ./firmware/cmd/skerryd ./board/cmd/skerry-initrd
	@$(GOBUILD) -o $(BIN)/ ./board/cmd/skerry-image
	$(call say,image of $(BOARD))
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(BIN)/skerry-image -board $(BOARD) -agent build/linux-$(image_arch)/skerryd \
		-initrd build/linux-$(image_arch)/skerry-initrd -version $(VERSION) -mirror '$(MIRROR)' -lock '$(LOCK)' -keyring '$(KEYRING)' -key '$(SIGN_KEY)' -figures build/bench/image.json

.PHONY: image-relay
image-relay: ## the relay's image for amd64 and arm64, as an OCI archive (docs/deploy.md)
	$(call say,image of skerry-relay)
	@GOOS=linux GOARCH=arm64 $(GOBUILD) -o build/linux-arm64/ ./relay/cmd/skerry-relay
	@GOOS=linux GOARCH=amd64 $(GOBUILD) -o build/linux-amd64/ ./relay/cmd/skerry-relay
	@go run ./relay/deploy/image -name skerry-relay:$(IMAGE_TAG) -out build/skerry-relay.oci.tar amd64=build/linux-amd64/skerry-relay arm64=build/linux-arm64/skerry-relay
	@ls -l build/skerry-relay.oci.tar | awk '{printf "    %6.1f MB  %s\n", $$5/1e6, $$9}'

deb: ## Debian packages of skerryd for ARCHES="armhf arm64 amd64" in build/deb (docs/packages.md)
	@for arch in $(ARCHES); do \
	  case $$arch in armhf) go=arm arm=7 dir=armv7 ;; armel) go=arm arm=5 dir=armv5 ;; arm64) go=arm64 arm= dir=arm64 ;; amd64) go=amd64 arm= dir=amd64 ;; *) \
	    echo "ARCHES has $$arch; allowed: armhf, armel (any ARM, floating point in software), arm64, amd64" >&2; exit 2 ;; esac; \
	  printf '\033[1m==> skerryd for %s\033[0m\n' $$arch; \
	  GOOS=linux GOARCH=$$go GOARM=$$arm $(GOBUILD) -o build/linux-$$dir/ ./firmware/cmd/skerryd; \
	  scripts/build-deb.sh $$arch build/linux-$$dir/skerryd build/deb; \
	done

# The board of bundles, and who signs them (development keys, if nobody is named).
BOARD   ?= qemu-armv7
CERT    ?=
KEY     ?=
KEYRING ?=
CHAIN   ?=
# Images (rootfs.img, boot.img) of the version before: how much of the bundle a gateway fetches that runs it.
AGAINST ?=

.PHONY: bundle
bundle: deps-boot ## a signed update of the images that `make image BOARD=…` has made (docs/updates.md)
	@go run ./board/cmd/skerry-bundle -board $(BOARD) -version $(VERSION) -root build/images/$(BOARD)/rootfs.img -boot build/images/$(BOARD)/boot.img \
		-cert "$(CERT)" -key "$(KEY)" -keyring "$(KEYRING)" -chain "$(CHAIN)" -out build/images/$(BOARD)/skerry-$(BOARD).raucb
	@go run ./firmware/cmd/skerry-publish $(foreach f,$(AGAINST),-against $(f)) -report build/bench/delta.json build/images/$(BOARD)/skerry-$(BOARD).raucb

kube: ## build the embedded Kubernetes control plane (once: about 10 CPU minutes)
	@scripts/build-kube.sh $(BIN)/skerry-kube

containerd2: ## build containerd 2, its shim and a current runc (once: about 3 CPU minutes)
	@scripts/deps.sh containerd2
	@scripts/build-containerd2.sh $(BIN)/containerd2

metrics-server: ## build metrics-server (once: about 3 CPU minutes)
	@scripts/build-metrics-server.sh $(BIN)/metrics-server

crio: ## build CRI-O (once: about 8 CPU minutes)
	@scripts/deps.sh crio
	@scripts/build-crio.sh $(BIN)/crio

modbus-peers: ## fetch and build the Modbus devices of the interoperability tests (once: some seconds)
	@scripts/deps.sh modbus
	@scripts/build-modbus-peers.sh $(BIN)/modbus-peers

debian-root: ## a small Debian with systemd, for the tests of packages (once: about a minute)
	@scripts/deps.sh machine
	@scripts/build-debian-root.sh $(BIN)/debian-root

push-peers: ## install the broker and the database that values are pushed to in tests
	@scripts/deps.sh push

opcua-peers: ## fetch the OPC UA servers of the interoperability tests (once: half a minute)
	@scripts/deps.sh opcua
	@scripts/build-opcua-peers.sh $(BIN)/opcua-peers

rig: deps build-host kube ## everything that the demo, the benchmarks and the integration tests run
	$(call say,building the sample images and the rig)
	@CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o $(BIN)/ ./hil-tests/demo ./hil-tests/bench/cmd/skerry-bench

# --- the two commands -----------------------------------------------------------------------------------------------

.PHONY: demo test test-unit test-contract test-integration test-arm conformance conformance-crio networking chaos
demo: rig ## the whole system on loopback, step by step (ONCE=1: no terminal, exits 0 only if every step held)
	@$(BIN)/demo -bin $(BIN) $(if $(ONCE),-once)

test: test-unit test-contract test-integration ## unit, contract and integration tests
	$(call say,all tests passed)

test-unit:
	$(call say,unit tests)
	@go test ./...
	@cd scripts/tools && go test ./...

test-contract:
	$(call say,contract tests against the CRI API, KubeEdge's device mapper interface, the KubeEdge API and the kubelet's statistics)
	@cd hil-tests/contract/cri && go test ./...
	@cd hil-tests/contract/dmi && go test ./...
	@cd hil-tests/contract/kubeedge && go test ./...
	@cd hil-tests/contract/kubelet && go test ./...
	@cd hil-tests/kube && go test ./pki

test-integration: rig deps-boot metrics-server modbus-peers opcua-peers push-peers debian-root
	$(call say,integration tests on a real control plane, a real containerd and devices of others)
	@scripts/test-integration.sh $(BIN)
	$(call say,histories of a bad network (toxiproxy), judged by porcupine)
	@SKERRY_BIN=$(BIN) go -C hil-tests/history test -tags integration -count=1 .

conformance: rig containerd2 ## the table of what Kubernetes promises about pods (docs/conformance.md), on Debian's containerd and on containerd 2
	$(call say,conformance of pods)
	@SKERRY_BIN=$(BIN) SKERRY_CONTAINERD2=$(BIN)/containerd2/containerd go test -tags integration,containerd2 -count=1 -timeout 20m ./hil-tests/conformance

conformance-crio: rig crio ## pods and the same table on CRI-O (docs/runtimes.md)
	$(call say,conformance of pods on CRI-O)
	@SKERRY_BIN=$(BIN) SKERRY_CRIO=$(BIN)/crio/crio go test -tags integration,crio -count=1 -timeout 20m -p 1 -run CRIO ./hil-tests/pods ./hil-tests/conformance

networking: rig deps-networking ## kube-proxy (iptables and nftables) and CoreDNS as their projects ship them, as pods of a gateway that is cut off and restarted
	@scripts/build-networking.sh $(BIN)
	$(call say,Services and names)
	@SKERRY_BIN=$(BIN) go test -tags integration,networking -count=1 -timeout 15m -v -run TestServices ./hil-tests/network

chaos: rig ## kill agent, containerd and both, fill the disk and set the clock, for CHAOS=10m each while pods come and go; then 200 pods that leave nothing behind
	$(call say,chaos)
	@SKERRY_BIN=$(BIN) CHAOS=$(CHAOS) CHAOS_CYCLES=200 go test -tags integration -count=1 -timeout 3h -v ./hil-tests/chaos

test-arm: deps-arm ## unit tests of what runs on a gateway, under qemu-user for GOARM=7 and arm64
	@scripts/test-arm.sh

# --- whole gateways -------------------------------------------------------------------------------------------------

HIL_BOARDS ?= qemu-armv7,qemu-arm64
HIL         = SKERRY_BIN=$(BIN) HIL_RIG=$(if $(RIG),$(abspath $(RIG))) HIL_BOARDS=$(HIL_BOARDS) go test -json -tags hil -count=1 -timeout 90m $(1) ./hil-tests/scenarios | go run ./hil-tests/scenarios/junit -out build/hil/junit.xml

.PHONY: hil hil-smoke hil-images hil-updates hil-update hil-powercut hil-powercut-images
hil: rig deps-hil hil-updates ## what happens to a gateway in ten years, on both of QEMU's machines with their images (RIG=file.yaml: on a board; docs/hil.md)
	$(call say,scenarios)
	@$(call HIL,)

hil-smoke: rig deps-hil hil-images ## one boot of both of QEMU's machines: it starts, enrols, and is as its board says
	$(call say,one boot of each machine)
	@$(call HIL,-run 'TestGateway/.*/(boot|enrol|board)$$')

deps-hil:
	@scripts/deps.sh hil
hil-images:
	@$(if $(RIG),true,for b in $(subst $(COMMA), ,$(HIL_BOARDS)); do $(MAKE) -s image BOARD=$$b; done)
# An update for each: the same system under a later version.
hil-updates: deps-boot hil-images
	@$(if $(RIG),true,for b in $(subst $(COMMA), ,$(HIL_BOARDS)); do $(MAKE) -s hil-update BOARD=$$b; done)
hil-update:
	$(call say,update of $(BOARD))
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(BIN)/skerry-image -board $(BOARD) -agent build/linux-$(image_arch)/skerryd -out build/hil/next \
		-initrd build/linux-$(image_arch)/skerry-initrd -version $(VERSION).1 -mirror '$(MIRROR)' -lock build/images/$(BOARD)/packages.lock -keyring '$(KEYRING)'
	@go run ./board/cmd/skerry-bundle -board $(BOARD) -version $(VERSION).1 -root build/hil/next/$(BOARD)/rootfs.img -boot build/hil/next/$(BOARD)/boot.img \
		-out build/hil/next/$(BOARD)/skerry-$(BOARD).raucb

# Three systems whose files differ, so that a slot that holds some of each is not whole.
hil-powercut: deps-boot deps-hil ## N=500 power cuts while a whole gateway updates itself from slot A to B and back, on a disk that loses what was not flushed (docs/updates.md)
	@test -e build/hil/powercut/record/complete || $(MAKE) -s hil-powercut-images
	$(call say,power cuts during updates)
	@SKERRY_POWERCUTS=$(if $(filter 20,$(N)),500,$(N)) go test -tags hil -count=1 -timeout 3h -v -run '^TestPowerCuts$$' ./hil-tests/updates
hil-powercut-images:
	@$(MAKE) -s image BOARD=qemu-armv7 VERSION=1.0
	@epoch=$$(git log -1 --format=%ct); for v in 1.1 1.2; do epoch=$$((epoch + 86400)); dir=build/hil/powercut/$$v; \
	  GOOS=linux GOARCH=arm GOARM=7 CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X github.com/skerry/skerry.Version=$$v" -o $$dir/skerryd ./firmware/cmd/skerryd; \
	  SOURCE_DATE_EPOCH=$$epoch $(BIN)/skerry-image -board qemu-armv7 -agent $$dir/skerryd -initrd build/linux-armv7/skerry-initrd -out $$dir -cache build/images/cache \
	    -version $$v -lock build/images/qemu-armv7/packages.lock; \
	  go run ./board/cmd/skerry-bundle -board qemu-armv7 -version $$v -root $$dir/qemu-armv7/rootfs.img -boot $$dir/qemu-armv7/boot.img -out $$dir/qemu-armv7/skerry-qemu-armv7.raucb; \
	done

# --- care -----------------------------------------------------------------------------------------------------------

.PHONY: check fmt generate lint flake size repro repro-image licences vulns dependencies sbom
check: lint licences vulns ## formatting, generated code, vet, linters, licences, known vulnerabilities
	$(call say,formatting is clean)
	@test -z "$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go'))" || { echo "not formatted (run: make fmt):"; gofmt -l $$(git ls-files -co --exclude-standard '*.go'); exit 1; }
	$(call say,generated code is up to date)
	@scripts/unchanged.sh make -s generate
	$(call say,vet)
	@go vet ./... && go vet -tags integration,networking,containerd2,crio,hil ./hil-tests/...

lint: $(BIN)/golangci-lint
	$(call say,linters)
	@$(BIN)/golangci-lint run --max-same-issues=0 --max-issues-per-linter=0 ./...

$(BIN)/golangci-lint: scripts/tools/lint/go.mod scripts/tools/lint/go.sum
	$(call say,building golangci-lint (once: about 4 CPU minutes))
	@cd scripts/tools/lint && CGO_ENABLED=0 go build -trimpath -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

licences: ## licences of all that the shipped binaries link, and the list of it
	$(call say,licences)
	@cd scripts/tools && go run ./supply -root $(CURDIR) check

vulns: $(BIN)/govulncheck ## known vulnerabilities in what the shipped binaries call (VULNS=-required: fail if the database cannot be had)
	$(call say,known vulnerabilities)
	@cd scripts/tools && go run ./supply -root $(CURDIR) -govulncheck $(BIN)/govulncheck $(VULNS) vulns

$(BIN)/govulncheck: scripts/tools/vuln/go.mod scripts/tools/vuln/go.sum
	@cd scripts/tools/vuln && CGO_ENABLED=0 go build -trimpath -o $@ golang.org/x/vuln/cmd/govulncheck

dependencies: ## write docs/security/dependencies.md
	@cd scripts/tools && go run ./supply -root $(CURDIR) list

sbom: ## CycloneDX documents and licence texts of the shipped binaries, in build/sbom
	@cd scripts/tools && go run ./supply -root $(CURDIR) -version $(VERSION) sbom
	@ls build/sbom

fmt: ## format all Go code
	@gofmt -w $$(git ls-files -co --exclude-standard '*.go')

generate: ## generate MessagePack codecs, deep copies, CRDs and the plain YAML of the Helm chart
	$(call say,generating)
	@go generate ./...

flake: ## prove a test steady: make flake TEST=./firmware/link N=50
	@go test -count=$(N) -failfast $(TEST)

size: build ## binary sizes, written to build/bench/size.json
	@go run ./hil-tests/bench/cmd/skerry-bench size

repro-image: image ## build the image of BOARD a second time, elsewhere and from the same packages, and compare
	@scripts/repro-image.sh $(BOARD) $(image_arch) $(VERSION)

repro: ## build twice in different folders and compare
	@scripts/repro.sh

# --- figures --------------------------------------------------------------------------------------------------------

.PHONY: sim
sim: ## play SEEDS=1000 seeds of the simulated worlds, faults and all; WORLD="clocks" SEED=17 plays one again with its trace
	@go test -c -o $(BIN)/sim.test ./hil-tests/sim
ifeq ($(SEED),)
	@GOGC=400 SIM_SEEDS=$(SEEDS) SIM_WORLD="$(WORLD)" $(BIN)/sim.test -test.run '^TestSeeds$$' -test.timeout 0
else
	@SIM_SEED=$(SEED) SIM_WORLD="$(WORLD)" $(BIN)/sim.test -test.run '^TestSeed$$'
endif

.PHONY: powercut
powercut: ## N=1000 power cuts while twins and history are written at 100 a second, and one at each operation of a scripted day (root, /dev/fuse)
	@SKERRY_POWERCUTS=$(if $(filter 20,$(N)),1000,$(N)) go test -tags integration -count=1 -timeout 60m -v ./hil-tests/powercut

.PHONY: bench-image bench-memory bench-memory-arm bench-first-light bench-fleet bench-attack bench-pods bench-modbus bench-store bench-devices bench-opcua
bench-store: ## bytes that a twin update costs the flash, with and without history, on blocks of 4 KiB and 1 KiB, counted at a block device; 1,000 power cuts (root)
	@$(GOBUILD) -o $(BIN)/ ./hil-tests/bench/cmd/skerry-bench
	@$(BIN)/skerry-bench store

bench-image: rig deps-hil ## size of the images; qemu-armv7 from its first power-on to enrolled, and from a cold start to a running pod (about 3 minutes)
	@for b in qemu-armv7 qemu-arm64; do $(MAKE) -s image BOARD=$$b; done
	$(call say,first and cold start of qemu-armv7)
	@export HIL_FIGURES=$(CURDIR)/build/bench/image.json; $(call HIL,-run 'TestGateway/qemu-armv7/(boot|enrol|stick-and-pod|cold-start)$$')
	@tr -d '",:{' < build/bench/image.json | awk 'NF == 1 { name = $$1 } $$1 == "value" { value = $$2 } $$1 == "unit" { print name, value, $$2 }'

bench-memory: rig ## resident and proportional memory of agent and relay
	@$(BIN)/skerry-bench memory -bin $(BIN)

bench-memory-arm: rig deps-qemu ## memory of skerryd read inside an ARMv7 machine with 128 MB
	@GOOS=linux GOARCH=arm GOARM=7 $(GOBUILD) -o build/linux-armv7/ ./firmware/cmd/skerryd
	@$(BIN)/skerry-bench memory-arm -bin $(BIN) -skerryd build/linux-armv7/skerryd

bench-first-light: rig ## start, offline start, pod and device latencies, idle traffic
	@$(BIN)/skerry-bench first-light -bin $(BIN)

bench-pods: rig ## create → Running against the runtime's own time, the agent with 20 idle pods, memory over an hour of churn (PODS=-short: 5 minutes)
	@$(BIN)/skerry-bench pods -bin $(BIN) $(PODS)

bench-modbus: rig ## Modbus: use of RTU lines, a dead slave among 32, 100,000 points a second over TCP with writes beside them (about 5 minutes)
	@$(BIN)/skerry-bench modbus -bin $(BIN)

bench-opcua: rig ## 100,000 monitored OPC UA items a second in the real agent, and the same polled
	@$(BIN)/skerry-bench opcua -bin $(BIN)

bench-attack: rig ## what attacks with one gateway's key do to the latency of honest agents
	@$(BIN)/skerry-bench attack -bin $(BIN)

bench-devices: rig ## changes that devices tell of by themselves: taken by one agent per second, visible in the API after
	@$(BIN)/skerry-bench devices -bin $(BIN)

bench-fleet: rig ## AGENTS=1000 simulated agents on one relay: memory, fan-out, storms, silence (FLEET="-h" lists its flags)
	@$(BIN)/skerry-bench fleet -bin $(BIN) -agents $(AGENTS) $(FLEET)

.PHONY: clean
clean: ## remove what was built
	rm -rf build
