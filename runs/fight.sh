#!/bin/sh
# Fights by the picture alone: balanced accuracy with a fifth of the sources left out in turn; then the checkpoint
# `fight`, learned from every clip, which does not come with streamer.
# Usage: runs/fight.sh FOLDER [SEEDS]    FOLDER is laid out as fights (fight/, nofight/)
set -eu
folder=${1:?FOLDER is laid out as fights (fight/, nofight/)}
streamer train fight --data "$folder" --folds 5 --seeds "${2:-5}" --out learned/fight-folds
streamer train fight --data "$folder" --out learned/fight
