#!/bin/sh
# What pretraining is worth: accuracy on ten sounds after learning from 5, 10, 25 and 100 % of the labels, from nothing
# and after each way of pretraining, with intervals; leaves effect.json and effect.svg.
# Usage: runs/pretrain.sh FOLDER [OUT]    FOLDER is laid out as esc10 (CLASS/FOLD-RECORDING-TAKE.opus)
set -eu
folder=${1:?FOLDER is laid out as esc10 (CLASS/FOLD-RECORDING-TAKE.opus)}
out=${2:-learned/pretrain-effect}
python -m models.learning.pretrain.effect sounds "$folder" "$out"
cat "$out/effect.json"
