# dunlin: "make demo" shows it, "make test" tests it; both need Go and make alone.
# With CI=1 set, "make test" is everything CI demands and wants the tools that .ci/run installs.

SHELL   := /bin/bash
.SHELLFLAGS := -o pipefail -c
GO      ?= go
TOOL    := $(GO) tool -modfile=tools.mod
STATIC  := CGO_ENABLED=0
VERSION ?= 0.1.0-dev
# The same source gives the same bytes, wherever it is built.
FLAGS   := -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X dunlin/agent.Version=$(VERSION) -X dunlin/internal/cli.Version=$(VERSION)"
# The agent asks its hub one thing at a time: HTTP/2 would be half a megabyte for nothing.
AGENT   := -tags nethttpomithttp2
PLATFORMS := linux/amd64 linux/arm64 linux/arm/7 linux/arm/6
# What computes: tested without assembly too.
NUMERIC := ./kernels ./engine ./model/...

.DEFAULT_GOAL := help
.PHONY: help demo test check test-all test-purego test-race test-arm fresh bench bench-peers bench-train distil bench-arm faithfulness build deb kernels device-test wear install-test size screenshot generate onnxruntime clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## build both programs and show the whole road on this machine (ARGS="--exit" to end by itself)
	@$(STATIC) $(GO) build -o bin/ ./cmd/dunlin ./cmd/dunlin-agent
	@bin/dunlin demo $(ARGS)

ifdef CI
test: check fresh test-all test-purego test-race test-arm ## run the tests; with CI=1 also everything else
	@$(MAKE) --no-print-directory device-test
	@$(MAKE) --no-print-directory demo ARGS="--exit"
else
test: test-all
endif

# Three packages at once: agent and internal/e2e mostly wait. make check, which CI runs before, has vetted all.
# One line tells how many tests were skipped and why; in CI none may be.
test-all:
	@log=$$(mktemp); trap 'rm -f $$log' EXIT; \
	$(TOOL) gotestsum --format pkgname --hide-summary skipped --jsonfile $$log -- -p 3 $(if $(CI),-vet=off) -timeout 20m ./... || exit 1; \
	n=$$(grep -c '"Output":".*skipped: no shared data' $$log || true); all=$$(grep '"Action":"skip"' $$log | grep -c '"Test":' || true); \
	test $$all = 0 || echo "$$all tests skipped: $$n because there is no shared data (DUNLIN_SHARED, default ../shared), $$((all-n)) for want of a tool"; \
	if [ -n "$(CI)" ] && grep '"Action":"skip".*"Test":' $$log; then echo "skipped in CI: every test must run there"; exit 1; fi

check: ## format, vet for amd64 and arm64, staticcheck
	@out=$$($(TOOL) gofumpt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofumpt: $$out"; exit 1; }
	GOARCH=amd64 $(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./...
	$(GO) vet -tags board,systemd ./internal/e2e ./boards/pins ./firmware-tools/deb
	$(TOOL) staticcheck ./...
	$(TOOL) staticcheck -tags board,systemd ./internal/e2e ./boards/pins ./firmware-tools/deb

test-purego:
	$(GO) test -short -tags purego $(NUMERIC)

# Packages tested at once: many wait for what takes its time (agent: 90 s, of which it computes 16), while others compute.
WAITING := 4

# Packages that start no goroutine and share nothing that changes, so that the race detector has nothing to find in their tests; what
# calls them on several threads (engine, agent, hub, commands) is tested with it. TestRaceStep holds them to it.
SERIAL := explain firmware-tools/image kernels model model/onnx model/pack model/prep model/samples model/tflite quant quant/certify train train/head train/recipe
# Those of them that have unsafe pointers, which a build for the race detector checks too.
UNSAFE := kernels model train
# Tests of commands that mostly wait for a training, or for a network, on one thread. The threads of commands are in TestCertified, TestExplain and TestSmallForm.
TRAINED := TestDetectorsKeepTheirBoxes TestGarmentsAreTrained TestGoldens TestMemory TestRewrite TestSameSplitSameWeights TestSoundsAndNumbers TestSpeech TestTrained TestTrainedInInt8

empty :=
space := $(empty) $(empty)

test-race: ## what runs on several threads, with the race detector
	CGO_ENABLED=1 $(GO) test -p $(WAITING) -short -race -vet=off -timeout 20m -skip '^($(subst $(space),|,$(TRAINED)))$$' $$($(GO) list ./... | grep -vxF -e dunlin/internal/e2e $(SERIAL:%=-e dunlin/%))
	$(GO) test -short -vet=off -gcflags=-d=checkptr $(UNSAFE:%=./%)

# Under qemu a whole network takes minutes, so these are left to the host: what they check is checked there in integers, and
# TestSameBitsFromAPack compares the answers of networks bit for bit. So is what looks at the object code for arm64.
HEAVY := Golden|Keyword|Light|Stories|Speech|Garments|Photos|NotFused

# Each row of kernels is tested on the least CPU that has it (Cortex-A72 has what A53 has); what is not about rows, on all.
ROWS = |./^($(1))(-exact)?$$|././^($(1))(-exact)?$$
ARM_CPUS := arm-a53 arm-a76 arm-max arm-v7
.PHONY: $(ARM_CPUS)

test-arm: ## the kernels and the engine as arm64 and armv7, under qemu: two CPUs at a time
	@$(MAKE) --no-print-directory -j2 --output-sync=target $(ARM_CPUS)

arm-a53 arm-a76 arm-max: export GOARCH = arm64
arm-v7: export GOARCH = arm
arm-v7: export GOARM = 7
arm-%: UNDER = $(GO) test -p 1 -short -timeout 20m

arm-a53: # NEON
	$(UNDER) -skip '$(HEAVY)' -exec "qemu-aarch64-static -cpu cortex-a53" ./kernels ./engine ./model ./model/prep

arm-a76: # FP16 and DotProd
	$(UNDER) -skip '$(HEAVY)$(call ROWS,generic|neon)' -exec "qemu-aarch64-static -cpu cortex-a76" ./kernels ./engine

arm-max: # I8MM
	$(UNDER) -skip '$(HEAVY)$(call ROWS,generic|neon|fp16|dotprod)' -exec "qemu-aarch64-static -cpu max,pauth-impdef=on" ./kernels
	$(UNDER) -run SameBits -exec "qemu-aarch64-static -cpu max,pauth-impdef=on" ./engine

arm-v7:
	$(UNDER) -skip '$(HEAVY)' -exec "qemu-arm-static -cpu max" ./kernels ./engine

generate: ## make again what is made by a program
	$(GO) generate ./...

fresh: ## fail where a generated file is not what its generator makes
	@before=$$(git status --porcelain | sha256sum); $(GO) generate ./... && \
	test "$$before" = "$$(git status --porcelain | sha256sum)" || { git status --short; echo "generated files are stale: run make generate"; exit 1; }

bench: ## measure kernels and models on this machine, as Markdown for docs/PERFORMANCE.md
	$(GO) run ./cmd/figures kernels models

bench-peers: ## the same models beside ONNX Runtime (wants node, npm, python3-onnx and the network, once)
	$(GO) run ./cmd/figures peers process

bench-train: ## a step of training beside torch (wants python3-torch and libopenblas0-pthread)
	$(GO) run ./cmd/figures train

distil: ## what a student learns from a teacher, beside what it learns alone (wants dataset-fashion-mnist; 20 minutes)
	$(GO) run ./cmd/figures distil

bench-arm: ## what llvm-mca models for the loops of arm64 (wants llvm and binutils-aarch64-linux-gnu)
	$(GO) run ./cmd/figures arm

# Data that the project does not carry, as the tests find it.
SHARED := $(or $(DUNLIN_SHARED),../shared)

faithfulness: ## how well heat maps say what counted: each method against chance, 200 pictures of two networks (6 minutes)
	@$(STATIC) $(GO) build -o bin/ ./cmd/dunlin; d=$$(mktemp -d); trap 'rm -rf $$d' EXIT; set -e; \
	bin/dunlin model compress examples/garments/garments.onnx --calibrate examples/garments/calibration -o $$d/garments >/dev/null; \
	echo "garments in int8, examples/garments/samples:"; \
	bin/dunlin model explain $$d/garments --float examples/garments/garments.onnx --faithful --data examples/garments/samples; \
	echo; echo "MobileNetV2 in int8, imagenet-sample-500:"; \
	bin/dunlin model explain $(SHARED)/models/onnx/mobilenet-v2-1.0-224-qdq-uint8.onnx \
	  --float $(SHARED)/models/onnx/mobilenet-v2-1.0-224-dequant.onnx --faithful --data $(SHARED)/data/vision/imagenet-sample-500

DIST := dist

build: ## static binaries for every platform, in dist/
	@set -e; for p in $(PLATFORMS); do IFS=/ read -r os arch arm <<< "$$p"; out=$(DIST)/$$os-$$arch$${arm:+v$$arm}; \
	  export GOOS=$$os GOARCH=$$arch GOARM=$$arm; $(STATIC) $(GO) build $(FLAGS) -o $$out/ ./cmd/dunlin; \
	  $(STATIC) $(GO) build $(FLAGS) $(AGENT) -o $$out/ ./cmd/dunlin-agent; ls -l $$out | awk -v d=$$out 'NR>1{print d"/"$$NF"\t"$$5}'; done

# Debian calls one architecture of 32 bits armhf; the package has the program that also runs on ARMv6.
deb: PLATFORMS := linux/amd64 linux/arm64 linux/arm/6
deb: build ## Debian packages of the agent and the hub, in dist/
	@rm -f $(DIST)/*.deb
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(GO) run ./cmd/dunlin image deb --version $(VERSION) \
	  -o $(DIST) $(foreach p,amd64 arm64 armv6,$(DIST)/linux-$(p)/dunlin-agent $(DIST)/linux-$(p)/dunlin)

install-test: ## install the packages on a Debian under systemd, in QEMU (wants root, debootstrap, qemu-system-x86, cpio, kmod; 5 minutes)
	$(GO) test -count=1 -v -timeout 30m -tags systemd -run TestUnderSystemd ./firmware-tools/deb

kernels: ## fetch the kernels of virtual boards from Debian's archive, those that are not there
	@$(STATIC) $(GO) run ./cmd/dunlin image vm --fetch

# Alone: emulators take both cores. In CI no test may be skipped.
device-test: ## boot the agent on virtual boards: Pi 3B+, Zero 2 W, 32-bit, GPIO, camera (wants qemu-system-arm; kernels come by apt-get)
	@$(MAKE) --no-print-directory kernels || test -z "$(CI)"
	@tests=$$(grep -l '^//go:build board' internal/e2e/*_test.go | xargs grep -hoE '^func Test\w+' | sed 's/func //' | paste -sd'|'); \
	log=$$(mktemp); trap 'rm -f $$log' EXIT; \
	$(TOOL) gotestsum --format testname --jsonfile $$log -- -count=1 -parallel 6 -timeout 30m -tags board -run "^($$tests)\$$" ./internal/e2e || exit 1; \
	if [ -n "$(CI)" ] && grep '"Action":"skip".*"Test":' $$log; then echo "skipped in CI: every test must run there"; exit 1; fi

wear: ## what the agent writes to its card: for results, for pictures of a folder, and for nothing (2 minutes; ARGS="-idle 1h" watches for an hour)
	$(GO) test -count=1 -v -timeout 2h -tags board -run 'TestWear' ./internal/e2e $(ARGS)

size: ## binary size and idle memory of the agent, with their limits
	$(GO) test -count=1 -v -run 'TestSize' ./internal/e2e | grep -vE '^(=== |--- |PASS|ok)'

screenshot: ## take docs/page.png from a running demo, in Chromium
	$(GO) test -count=1 -run TestPage ./internal/e2e -screenshot ../../docs/page.png

# Its scripts would fetch CUDA; the network is needed once.
onnxruntime: ## install ONNX Runtime for node, which the tests of exported models run
	npm install --ignore-scripts --no-save --no-package-lock --no-audit --no-fund --prefix internal/e2e/testdata onnxruntime-node@1.30.0

clean: ## remove what the targets above made
	rm -rf bin dist demo-data
