# Short names for what a developer runs; the scripts do the work and run alone as well.
.PHONY: check test fmt demo bench docs pages

RUNTIME := $(or $(AIWORKER_RUNTIME_DIR),runtime)

check: ## what CI runs
	./test.sh

test: ## all tests, and nothing else
	./test.sh tests

fmt: ## put style right where a tool can
	./update-runtime.sh --dev
	$(RUNTIME)/worker/bin/ruff check --fix .
	$(RUNTIME)/worker/bin/ruff format .

demo: ## the whole job against a Horde of its own
	./horde-bridge.sh demo

bench: ## all measurements
	./test.sh --bench all

docs: ## the documentation site, into build/site
	NO_MKDOCS_2_WARNING=1 tools/in-runtime python -m mkdocs build

pages: ## the generated pages of docs/ that are committed
	tools/in-runtime python -m tools.config_reference > docs/configuration.md
	tools/in-runtime python -m tools.payload_page > docs/payload.md
	tools/in-runtime python -m tools.faults_page > docs/faults.md
