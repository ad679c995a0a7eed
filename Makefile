# Short names for what a developer runs; the scripts do the work and run alone as well.
.PHONY: check quick test coverage fmt demo bench docs pages pictures

RUNTIME := $(or $(AIWORKER_RUNTIME_DIR),runtime)

check: ## what CI runs
	./test.sh

quick: ## style, types, import rules and unit tests: about a minute on two slow cores
	./test.sh --quick

test: ## all tests, and nothing else
	./test.sh tests

coverage: ## which lines of worker/ the tests run, without those that start ComfyUI; the page is build/coverage
	./test.sh -n 2 -m "not engine" --cov --cov-report=term --cov-report=html

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

pictures: ## the pictures of the page in docs/images, which are committed
	tools/in-runtime python -m tests.browser.pictures

pages: ## the generated pages of docs/ that are committed
	tools/in-runtime python -m tools.config_reference > docs/configuration.md
	tools/in-runtime python -m tools.payload_page > docs/payload.md
	tools/in-runtime python -m tools.faults_page > docs/faults.md
	tools/in-runtime python -m tools.metrics_page
