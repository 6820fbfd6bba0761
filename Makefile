# Everything a person or CI does with this project. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# The stand-ins of scripts/offline-images, where it has built them.
IMAGES := scripts/with-offline-images

.PHONY: env demo demo-docker images test test-slow test-docker nightly reliability fuzz check check-all docker-answers format clean audit

env: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": name another one with make PYTHON=…")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,sample,dev]'
	@touch $@

demo: env
	$(BIN)/chaos run scenarios/shipping_down.yaml --runtime local

demo-docker: env
	$(IMAGES) $(BIN)/chaos run scenarios/shipping_down.yaml --runtime docker

# For where no image registry is in reach.
images: env
	scripts/offline-images --env-file .venv/offline-images.env

# Most tests wait more than they work; those that are judged by the load they drive have the machine to themselves.
test: env
	$(BIN)/python -m pytest -m 'not alone and not slow and not nightly' -n 4 --dist loadscope
	$(BIN)/python -m pytest -m 'alone and not slow and not nightly'

test-slow: env
	$(IMAGES) $(BIN)/python -m pytest -m 'slow and not alone and not nightly' -n 3 --dist worksteal tests/contract
	$(IMAGES) $(BIN)/python -m pytest -m 'slow and not alone and not nightly' -n 2 --dist loadscope --ignore tests/contract
	$(IMAGES) $(BIN)/python -m pytest -m 'slow and alone and not nightly' --durations 10

test-docker: env docker-answers
	$(IMAGES) $(BIN)/python -m pytest -m 'docker and not nightly'

# 100,000 bad inputs of every kind that is read; KIND="--kind scenario" is one kind alone.
fuzz: env
	$(BIN)/python -m tests.fuzz --inputs 100000 $(KIND)

nightly: env
	$(IMAGES) $(BIN)/python -m pytest -m nightly --timeout 7200
	$(BIN)/python -m pytest -m 'not alone and not slow and not nightly' --hypothesis-profile thorough --timeout 7200 -n 2 tests/unit
	DRAWN_SEQUENCES=60 $(BIN)/python -m pytest --timeout 7200 tests/contract/test_faults_together.py
	@$(MAKE) --no-print-directory docker-answers

# Hours; it goes on where it was, but `process` and `commands` begin again. What came of it stands in docs/reliability.md.
reliability: env
	$(IMAGES) $(BIN)/python -m benchmarks.reliability --write docs/reliability.md

check: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory test

# All of it. Where the Docker suite could not run, that is a failure here, whatever the others came to.
check-all: env
	$(MAKE) --no-print-directory check
	$(MAKE) --no-print-directory test-slow
	@$(MAKE) --no-print-directory docker-answers

docker-answers: env
	@$(BIN)/python -c 'import sys; from tests.conftest import why_no_docker; why = why_no_docker(); sys.exit(why and "SKIPPED the Docker suite: " + why)'

# What is known to be wrong with what is depended on. Exit 1 of the script: something is; 3: nobody could tell, and why.
audit: env
	@test -x .venv/audit/bin/pip-audit || { $(PYTHON) -m venv .venv/audit && .venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; } || true
	@PIP_AUDIT=.venv/audit/bin/pip-audit $(BIN)/python scripts/audit

format: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find reports -mindepth 1 -maxdepth 1 ! -name .gitignore -exec rm -rf {} +
