#!/bin/sh
# GRID sentences: word error from lips, from the voice and from both.
# Usage: runs/grid-sentence.sh FOLDER [OUT]    FOLDER is laid out as grid_s1 (align.tsv beside ID.mp4)
set -eu
folder=${1:?FOLDER is laid out as grid_s1 (align.tsv beside ID.mp4)}
out=${2:-learned/grid-sentence}
streamer train grid-sentence --data "$folder" --out "$out"
checkpoint=$out/grid-sentence.safetensors
echo "both:";    streamer eval "$checkpoint" "$folder" --json
echo "picture:"; streamer eval "$checkpoint" "$folder" --without audio --json
echo "sound:";   streamer eval "$checkpoint" "$folder" --without video --json
