.PHONY: test lint pages docs build check smoke lowest mutants

PAGES := cli house robustbench python skill

test:
	python -m pytest -n auto

lint:
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	for page in $(PAGES); do python docs/generate_$$page.py --check || exit 1; done

# Write the generated pages.
pages:
	for page in $(PAGES); do python docs/generate_$$page.py || exit 1; done

# And build the site into build/site; a broken link is an error.
docs: pages
	mkdocs build --strict --quiet

build:
	rm -rf dist && python -m build

# The files are ready for the package index.
check: build
	twine check --strict dist/*

# The wheel alone, in a fresh environment, does a tour of all commands.
smoke: build
	rm -rf build/smoke && python -m venv build/smoke
	build/smoke/bin/pip install dist/*.whl
	PATH="$(CURDIR)/build/smoke/bin:$$PATH" bash .github/tour.sh

# The tests on the lowest versions that pyproject.toml allows.
lowest:
	rm -rf build/lowest && uv venv build/lowest
	uv pip install --python build/lowest/bin/python --resolution lowest-direct -e ".[test]"
	build/lowest/bin/python -m pytest -n auto -m "not slow"

# Changes of single lines in the core, the methods and the attacks that no test notices; hours.
mutants:
	mutmut run || true
	mutmut results
