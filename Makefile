# `make` lists the targets. Each works as the first command on a fresh machine with Go, git, make and a
# C compiler; tools are built into .bin from tools/go.mod, so that importers never see them.

BIN := $(CURDIR)/.bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: demo
demo: postgres build ## See it at work on this machine: no account, no network
	@$(BIN)/stripeonce demo

.PHONY: run
run: postgres build ## Serve with a private PostgreSQL, with a signing secret made for it
	@secret=$${STRIPE_WEBHOOK_SECRET:-whsec_$$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}; \
	echo "Deliver to it from another terminal with"; \
	echo "  STRIPE_WEBHOOK_SECRET=$$secret .bin/stripeonce send FILE…"; \
	STRIPE_WEBHOOK_SECRET=$$secret exec $(BIN)/stripeonce serve --local

.PHONY: build
build: ## Build the program, .bin/stripeonce
	@go build -buildvcs=false -ldflags "$(LINK)" -o $(BIN)/stripeonce ./cmd/stripeonce

# What the linker records in a program that is built here.
LINK = -X github.com/pook/stripeonce/internal/buildinfo.version=$$(git describe --tags --exact-match 2>/dev/null) \
	-X github.com/pook/stripeonce/internal/buildinfo.commit=$$(git rev-parse HEAD 2>/dev/null)

IMAGE ?= stripeonce:latest
.PHONY: image
image: ## Build the container's image IMAGE (stripeonce:latest): with buildah into .bin/image.tar, or with docker
	@tools/ensure-optional 'buildah docker' buildah "images"
	@CGO_ENABLED=0 GOOS=linux go build -trimpath -buildvcs=false -ldflags "-s -w $(LINK)" -o $(BIN)/linux/stripeonce ./cmd/stripeonce
	@tools/image $(BIN)/linux/stripeonce $(IMAGE) $(BIN)/image.tar

.PHONY: release
release: postgres $(BIN)/goreleaser $(BIN)/cyclonedx-gomod ## Make the archives of a release in .bin/dist, and run this machine's; publishes nothing
	tools/goreleaser release --snapshot --clean
	go test ./tests -run TestRelease -count 1 -v -args -dist $(BIN)/dist

CHROMIUM := tools/ensure-optional 'chromium chromium-browser google-chrome google-chrome-stable' chromium "the console's tests in a browser"
NODE := tools/ensure-optional node nodejs "the tutorial's tests"
BUILDAH := tools/ensure-optional buildah buildah "the image's tests"
NPM := tools/ensure-optional npm npm "the console's tests of accessibility"

.PHONY: test
test: postgres $(BIN)/dbmate $(BIN)/stripe-mock ## Run every test, each on its own database in a private PostgreSQL
	@$(CHROMIUM)
	@$(NODE)
	@$(NPM)
	@$(BUILDAH)
	go test -timeout 30m ./...
	go -C tests/browser test -timeout 30m ./...
	go -C tests/manifests test ./...
	go -C examples test ./...

.PHONY: tutorial
tutorial: postgres ## Run docs/is-your-handler-correct.md as written, and write the output into it
	@$(NODE)
	go test ./tests -run TestTutorial -count 1 -args -write-tutorial

.PHONY: screenshots
screenshots: postgres ## Write the console's screenshots into docs/screenshots
	@$(CHROMIUM)
	mkdir -p docs/screenshots
	go -C tests/browser test -count 1 . -args -screenshots $(CURDIR)/docs/screenshots

.PHONY: race
race: postgres $(BIN)/dbmate ## Run the tests under the race detector, with smaller samples (-short); ./tests runs programs of its own
	go test -race -short -timeout 30m $$(go list ./... | grep -v '/tests$$')

PARTITIONS ?= 4
.PHONY: partitions
partitions: postgres ## Run what depends on the tables with the ledger and the mirror in PARTITIONS (4) hash partitions, with smaller samples
	STRIPEONCE_TEST_PARTITIONS=$(PARTITIONS) go test -short -timeout 30m ./webhooks ./operations ./mirror ./console ./schema/... ./internal/readiness

ROWS ?=
PACKAGES ?= ./...
.PHONY: matrix
matrix: $(BIN)/dbmate $(BIN)/stripe-mock ## Run every test on PostgreSQL 13 to 18, with smaller samples; ROWS="13,go1.25.4,race 18,pgx@latest" chooses versions
	@tools/ensure-npm
	go run ./tests/matrix -packages "$(PACKAGES)" $(ROWS)

SOAK ?= 3m
REPORT ?=
.PHONY: torture
torture: postgres ## Disturb it in every way for minutes; REPORT=docs/reliability.md writes the table there
	@tools/ensure-optional 'pgbouncer /usr/sbin/pgbouncer' pgbouncer "the tests of PgBouncer"
	go test ./tests/torture -count 1 -timeout 60m -v -args -long -soak $(SOAK) $(if $(REPORT),-report $(abspath $(REPORT)))
	go test ./tests -run TestBackfillKilled -count 1 -timeout 20m -v -args -invoices 100000

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: postgres ## Run each fuzz test for FUZZTIME (30s)
	@git grep -o '^func Fuzz[A-Za-z]*' -- '*_test.go' | while IFS=: read -r file test; do \
		echo "$$file $${test#func }"; \
		go test -run '^$$' -fuzz "^$${test#func }$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" || exit; \
	done

.PHONY: bench
bench: postgres ## Run the benchmarks, and compare with a receiver that is written by hand
	go test -run '^$$' -bench . -benchmem ./...
	go run ./tests/bench -write

.PHONY: lint
lint: $(BIN)/golangci-lint ## Check style, wording and links, and that imports point one way
	go mod tidy -diff
	go vet ./...
	go -C examples mod tidy -diff
	go -C examples vet ./...
	go -C tests/browser mod tidy -diff
	go -C tests/browser vet ./...
	go -C tests/manifests mod tidy -diff
	go -C tests/manifests vet ./...
	$(BIN)/golangci-lint run ./...
	go -C tools vet ./...
	go -C tools run ./checktext

.PHONY: vuln
vuln: $(BIN)/govulncheck ## Look for known vulnerabilities that the code reaches; needs the network
	@tools/vulncheck $(BIN)/govulncheck

.PHONY: generate
generate: $(BIN)/sqlc ## Compile schema and queries into db, and those of the examples, with sqlc; list Stripe's event types
	$(BIN)/sqlc generate
	$(BIN)/sqlc generate -f examples/databasesql/sqlc.yaml
	$(BIN)/sqlc generate -f examples/billingpage/sqlc.yaml
	go -C tools run ./eventtypes > $(BIN)/event_types.txt
	mv $(BIN)/event_types.txt internal/eventtypes/event_types.txt
	go -C tests/manifests test -count 1 -run TestPrometheusRule . -args -write

.PHONY: up
up: $(BIN)/dbmate ## Apply the migrations to DATABASE_URL with dbmate
	$(BIN)/dbmate up

.PHONY: down
down: $(BIN)/dbmate ## Undo the newest migration of DATABASE_URL with dbmate
	$(BIN)/dbmate down

.PHONY: postgres
postgres: ## Install PostgreSQL's programs where they are missing, or name the command that does
	@tools/ensure-postgres

$(BIN)/dbmate: PACKAGE := github.com/amacneil/dbmate/v2
$(BIN)/sqlc: PACKAGE := github.com/sqlc-dev/sqlc/cmd/sqlc
$(BIN)/golangci-lint: PACKAGE := github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/stripe-mock: PACKAGE := github.com/stripe/stripe-mock
$(BIN)/govulncheck: PACKAGE := golang.org/x/vuln/cmd/govulncheck

# What makes releases is large, so it has a module of its own, which only make release compiles.
$(BIN)/goreleaser: PACKAGE := github.com/goreleaser/goreleaser/v2
$(BIN)/cyclonedx-gomod: PACKAGE := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
$(BIN)/goreleaser $(BIN)/cyclonedx-gomod: tools/release/go.mod tools/release/go.sum
	@echo "building $(@F), which takes minutes the first time"
	@mkdir -p $(BIN)
	@cd tools/release && go build -buildvcs=false -o $@ $(PACKAGE)
	@touch $@

$(BIN)/dbmate $(BIN)/sqlc $(BIN)/golangci-lint $(BIN)/stripe-mock $(BIN)/govulncheck: tools/go.mod tools/go.sum
	@echo "building $(@F), which takes minutes the first time"
	@mkdir -p $(BIN)
	@cd tools && go build -buildvcs=false -o $@ $(PACKAGE)
	@touch $@
