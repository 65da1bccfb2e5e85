.PHONY: test lint docs build smoke mutants

test:
	python -m pytest

lint:
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python docs/generate_cli.py --check
	python docs/generate_house.py --check
	python docs/generate_robustbench.py --check
	python docs/generate_python.py --check

# Write the generated pages, and build the site into build/site; a broken link is an error.
docs:
	python docs/generate_cli.py
	python docs/generate_house.py
	python docs/generate_robustbench.py
	python docs/generate_python.py
	mkdocs build --strict --quiet

build:
	python -m build

# The wheel alone, without any development dependency, does the main job.
smoke: build
	rm -rf build/smoke && python -m venv build/smoke
	build/smoke/bin/pip install dist/*.whl
	build/smoke/bin/jeat --version
	JEAT_RUNS_DIR=build/smoke/runs build/smoke/bin/jeat train --dataset digits --limit 128 --epochs 1
	JEAT_RUNS_DIR=build/smoke/runs build/smoke/bin/jeat sample -n 10 --steps 5

# Changes of single lines in the core, the methods and the attacks that no test notices; hours.
mutants:
	mutmut run || true
	mutmut results
