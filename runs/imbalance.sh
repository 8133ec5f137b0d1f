#!/bin/sh
# What helps where classes are rare: half of the classes have a tenth of their clips to be learned from. Balanced
# accuracy on a fold that has all of its clips, with nothing done, and with each remedy, each fold in turn.
# Usage: runs/imbalance.sh FOLDER [SEED...]    FOLDER is laid out as esc10 (CLASS/FOLD-RECORDING-TAKE.opus)
set -eu
folder=$(cd "${1:?FOLDER is laid out as esc10 (CLASS/FOLD-RECORDING-TAKE.opus)}" && pwd)
shift
[ $# -gt 0 ] || set -- 0
recipe=$(python3 -c 'from models.learning.recipe import find; print(find("sounds"))')
mkdir -p learned/imbalance
for fold in 1 2 3 4; do
    clips=learned/imbalance/without-$fold
    rm -rf "$clips"
    class=0
    for path in "$folder"/*/; do
        name=$(basename "$path")
        class=$((class + 1))
        mkdir -p "$clips/train/$name" "$clips/test/$name"
        seen=0
        for file in "$path"*; do
            case $(basename "$file") in
            "$fold"-*) ln -s "$file" "$clips/test/$name/" ;;
            *)
                seen=$((seen + 1))
                [ $((class % 2)) -eq 1 ] || [ $((seen % 10)) -eq 1 ] || continue
                ln -s "$file" "$clips/train/$name/"
                ;;
            esac
        done
    done
    for remedy in none logit_adjustment balanced_sampling focal; do
        sed "s/^\[train\]/[train]\nimbalance = \"$remedy\"/" "$recipe" >"learned/imbalance/$remedy.toml"
        for seed in "$@"; do
            echo "fold $fold left out, seed $seed, $remedy:"
            streamer train "learned/imbalance/$remedy.toml" --data "$clips" --seed "$seed" --json \
                --out "learned/imbalance/$fold-$remedy-$seed" |
                python3 -c 'import json, sys; print(json.load(sys.stdin)["figures"]["test"]["balanced_accuracy"])'
        done
    done
done
