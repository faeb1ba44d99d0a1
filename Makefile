# `make` lists the targets. What CI runs is `make ci`, nothing more.
GO      ?= go
GOTEST  ?= $(GO) test
FUZZ    ?= 10s
PKGS     = ./...
RACE     = ./internal/arena ./rpc ./peer ./snapshot ./wal ./storage ./mvcc ./state ./node ./leader ./watch ./v2hub ./v2http ./grpcapi ./insight ./server ./proxy/... ./tcpproxy ./load/...

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

build: ## build bin/quorate
	$(GO) build -o bin/quorate ./cmd/quorate

lint: ## format and vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt clean:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet $(PKGS)

check: lint ## format, vet, architecture rules and the quick tests: a minute or two
	$(GO) test -short $(PKGS)

test: ## all unit, scenario and crash tests of the module
	$(GOTEST) -timeout 15m $(PKGS)

race: ## the concurrent packages under the race detector, with invariant checks on
	$(GO) test -race -short -tags invariants -timeout 15m $(RACE)

compat: ## the same requests to us and to a real etcd, answers compared
	cd test/compat && $(GOTEST) -timeout 20m ./...

cluster: ## three real processes killed, paused, restarted and cut off from a majority under load
	cd test/cluster && $(GO) test -count=1 -timeout 20m .

power: ## the power of real processes is cut: needs root and /dev/fuse; POWER_ROUNDS and POWER_SEED choose
	cd test/power && $(GO) test -count=1 -timeout 15m ./...

cluster-large: ## a snapshot of 500 MB whose receiver is killed midway: some minutes
	cd test/cluster && CLUSTER_RESUME_MB=500 $(GO) test -count=1 -timeout 20m -run TestSnapshotResumes -v .

HOURS ?= 1
sim: ## clusters under seeds until HOURS (default 1) have been simulated; SEED chooses the first
	$(GO) run ./internal/sim -hours $(HOURS) -seed $(SEED) -long 3

recordings: ## docs/recordings: the tool's own verbs on three members, in tmux
	scripts/recordings

kube-schema: ## the embedded schema of Kubernetes types, after a change of the version in cli/kube/gen/go.mod
	cd cli/kube/gen && $(GO) run . ../schema.gz

k8s-objects: ## the embedded objects of "quorate bench k8s", after a change in load/k8s/gen
	cd load/k8s/gen && $(GO) run . ../objects.gz

sim-short: ## the 2,000 seeds that CI simulates
	$(GO) run ./internal/sim -seeds 2000 -seed 1 -long 20

canaries: ## mistakes planted in the simulated code: each must be found
	scripts/canaries

clients: ## clients nobody here wrote: etcdctl, etcdutl, npm's etcd3, and the official Go client over three members, gateway and proxy
	cd test/e2e && $(GOTEST) -count=1 -timeout 15m ./...
	cd test/clients && $(GOTEST) -count=1 -timeout 10m .

clients-faults: ## the official Go client while members fall silent: paused, cut off from clients and from each other; minutes
	cd test/clients && $(GOTEST) -count=1 -timeout 30m -v ./faults

k8s: ## the Kubernetes storage layer on top of us
	cd test/k8s && $(GOTEST) -count=1 -timeout 15m ./...

OBJECTS ?= 2000
switchover: ## a real Kubernetes API server is moved from etcd to us and back under load; OBJECTS it holds; builds it first, which takes minutes; writes bench/results
	cd test/kubernetes && $(GO) test -count=1 -timeout 40m -v ./switchover -objects $(OBJECTS) -result $(CURDIR)/bench/results/switchover-$$(date -u +%Y%m%dT%H%M%SZ).txt

STORE ?= quorate
kubernetes: ## real API servers, controllers, scheduler and nodes of kwok on us, step by step; STORE=etcd: on the judge; builds them first, which takes minutes
	cd test/kubernetes && $(GO) test -count=1 -timeout 40m -v ./serving -store $(STORE)

ui: ## the web page of real processes in headless Chromium, which has to be installed; UI_FLAGS=-update takes the screenshots anew
	cd test/ui && $(GO) test -count=1 -parallel 3 -timeout 15m . $(UI_FLAGS)

transfer: ## a million keys of a real etcd imported, killed half way and again, and exported; writes bench/results
	cd test/compat && $(GO) run ./transfer/cmd/million -out ../../bench/results/transfer-$$(date -u +%Y%m%dT%H%M%SZ).json

fuzz: ## every fuzz target for FUZZ (default 10s) each
	scripts/fuzz $(FUZZ)

fuzz-long: ## every fuzz target for 10 minutes each
	scripts/fuzz 10m

fuzz-auth: ## a million random decisions of authorization compared with a model
	$(GO) test ./auth -run 'TestDecisions' -count=1 -decisions 1000000 -v

kill: ## 50 rounds of kill -9 under load, each reopened and checked
	$(GO) test ./server -run TestKill -kill-rounds 50 -count=1 -timeout 30m -v

bench: ## us and a real etcd in turn on this machine, against the goals: more than an hour; writes bench/results
	cd bench && $(GO) test . && $(GO) run . -build

bench-auth: ## the part of it about authentication and TLS, beside puts without: ten minutes
	cd bench && $(GO) run . -build -only put,put-lean,auth,tls,tls-auth

bench-cluster: ## the same with three members of each on this machine: 25 minutes
	cd bench && $(GO) run . -build -members 3

bench-k8s: ## the part of it that plays a Kubernetes cluster: limit, latency, events to one watcher; a quarter of an hour
	cd bench && $(GO) run . -build -only k8s -rounds 1

bench-k8s-kill: ## three members under the traffic of a Kubernetes cluster, each killed in turn: how long a service level is broken
	cd test/cluster && $(GO) run ./cmd/k8skill

RUNS    ?= 100
FOR     ?= 60s
SEED    ?= 0
FAULTS   = cd test/cluster && $(GO) run ./cmd/faults

faults: ## RUNS (default 100) runs of FOR (default 60s) of a cluster under random faults, judged; writes bench/results
	$(FAULTS) -runs $(RUNS) -for $(FOR) -seed $(SEED) -out ../../bench/results/faults-$$(date -u +%Y%m%dT%H%M%SZ).jsonl

faults-short: ## a dozen short runs of the same: what CI runs, under three minutes
	$(FAULTS) -runs 12 -for 5s -heal 40s -seed $(SEED)

failover: ## how long writes stop when the leader is killed, ours and a real etcd's: medians
	cd test/cluster && $(GO) run ./cmd/failover

rewrite: ## regenerate the expected output of scenario tests: commit it only if you understand every changed line
	$(GO) test ./mvcc ./state ./leader ./load -rewrite

ci: ## what CI runs
	scripts/ci

.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*##.*/\1/p' $(MAKEFILE_LIST))
