#!/bin/sh
# Ten sounds (ESC-10): accuracy with one fold left out in turn, and the calibration error before and after the
# temperature; then the checkpoint `sounds`, learned from every clip.
# Usage: runs/sounds.sh FOLDER [SEEDS [SHIPPED]]    FOLDER is laid out as esc10 (CLASS/FOLD-RECORDING-TAKE.opus)
set -eu
folder=${1:?FOLDER is laid out as esc10 (CLASS/FOLD-RECORDING-TAKE.opus)}
seeds=${2:-3}
shipped=${3:-learned/shipped/sounds.safetensors}
streamer train sounds --data "$folder" --folds 4 --seeds "$seeds" --out learned/sounds-folds
streamer train sounds --data "$folder" --out learned/sounds
mkdir -p "$(dirname "$shipped")"
cp learned/sounds/sounds.safetensors "$shipped"
