#!/bin/sh
# Street sounds (UrbanSound8K): accuracy with one fold left out in turn.
# Usage: runs/street.sh FOLDER [SEEDS]    FOLDER is laid out as us8k (CLASS/RECORDING-CLASS-...)
set -eu
folder=${1:?FOLDER is laid out as us8k (CLASS/RECORDING-CLASS-...)}
streamer train street --data "$folder" --folds 3 --seeds "${2:-3}" --out learned/street-folds
