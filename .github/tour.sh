#!/usr/bin/env bash
# What a new user does, in small, with the installed package and nothing else.
set -euo pipefail
cd "$(mktemp -d)"
export JEAT_RUNS_DIR="$PWD/runs" JEAT_CACHE_DIR="$PWD/cache"
small=(--dataset digits --limit 128 --epochs 1)
jeat --version
jeat --info
jeat sample --class dog -n 2 --steps 5 -o dogs.png
jeat train --method jeat "${small[@]}"
jeat train --method standard "${small[@]}" -o judge
jeat attack digits-jeat-small -n 50 -o report.html
jeat sample digits-jeat-small -n 10 --steps 5
jeat landscape digits-jeat-small judge --grid 9 -o landscape.svg
jeat score digits-jeat-small --features judge -n 100 --steps 5
jeat --runs
test -s report.html -a -s landscape.svg -a -s dogs.png
