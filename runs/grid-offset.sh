#!/bin/sh
# By how much sound is late against lips: mean absolute error in ms (mae_ms).
# Usage: runs/grid-offset.sh FOLDER [SEED...]
set -eu
folder=${1:?FOLDER is laid out as grid_s1 (align.tsv beside ID.mp4)}
shift
[ $# -gt 0 ] || set -- 0
start=learned/grid-sentence/grid-sentence.safetensors
[ -f "$start" ] || streamer train grid-sentence --data "$folder"
for seed in "$@"; do
    streamer train grid-offset --data "$folder" --out "learned/grid-offset-$seed" --seed "$seed"
    streamer eval "learned/grid-offset-$seed/grid-offset.safetensors" "$folder" --json
done
