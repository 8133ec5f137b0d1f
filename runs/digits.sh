#!/bin/sh
# Spoken digits (FSDD): accuracy for a speaker that was never heard, each speaker left out in turn.
# Usage: runs/digits.sh FOLDER [SEEDS]    FOLDER is laid out as fsdd (DIGIT_SPEAKER_TAKE.flac)
set -eu
folder=${1:?FOLDER is laid out as fsdd (DIGIT_SPEAKER_TAKE.flac)}
streamer train digits-spoken --data "$folder" --folds 6 --seeds "${2:-3}" --out learned/digits-spoken-folds
streamer train digits-spoken --data "$folder" --out learned/digits-spoken
