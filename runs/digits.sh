#!/bin/sh
# Spoken digits (FSDD): accuracy for a speaker that was never heard, each speaker left out in turn. Starts from the
# sentence's encoder of the voice (made here if it isn't there).
# Usage: runs/digits.sh FOLDER GRID [SEEDS]    FOLDER is laid out as fsdd (DIGIT_SPEAKER_TAKE.flac), GRID as grid_s1
set -eu
folder=${1:?FOLDER is laid out as fsdd (DIGIT_SPEAKER_TAKE.flac)}
grid=${2:?GRID is laid out as grid_s1 (align.tsv beside ID.mp4)}
start=learned/grid-sentence/grid-sentence.safetensors
[ -f "$start" ] || streamer train grid-sentence --data "$grid"
streamer train digits-spoken --data "$folder" --folds 6 --seeds "${3:-1}" --out learned/digits-spoken-folds
