#!/bin/sh
# ResNet-18 on pictures of the digit, LSTM on the sentence without it, both: accuracy of ten digits, and of each branch.
# Usage: runs/worked-example.sh FOLDER [SEED...]
set -eu
folder=${1:?FOLDER is laid out as grid_s1 (align.tsv beside ID.mp4)}
shift
[ $# -gt 0 ] || set -- 0
for seed in "$@"; do
    out=learned/worked-example-$seed
    streamer train worked-example --data "$folder" --out "$out" --seed "$seed"
    streamer eval "$out/worked-example.safetensors" "$folder" --json
    streamer eval "$out/worked-example.safetensors" "$folder" --without text --json
    streamer eval "$out/worked-example.safetensors" "$folder" --without video --json
done
