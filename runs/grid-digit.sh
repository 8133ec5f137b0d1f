#!/bin/sh
# GRID digits: accuracy of lips, voice and both, in clean sound and in noise; with one modality taken away, against a
# specialist that never had it. Starts from the sentence's encoders (made here if they aren't there).
# Usage: runs/grid-digit.sh FOLDER [SEED...]
set -eu
folder=${1:?FOLDER is laid out as grid_s1 (align.tsv beside ID.mp4)}
shift
[ $# -gt 0 ] || set -- 0 1 2
start=learned/grid-sentence/grid-sentence.safetensors
[ -f "$start" ] || streamer train grid-sentence --data "$folder"
for seed in "$@"; do
    for recipe in grid-digit grid-digit-lips grid-digit-voice; do
        out=learned/$recipe-$seed
        [ -f "$out/$recipe.safetensors" ] || streamer train "$recipe" --data "$folder" --out "$out" --seed "$seed"
    done
    both=learned/grid-digit-$seed/grid-digit.safetensors
    echo "seed $seed, lips alone, specialist:";  streamer eval "learned/grid-digit-lips-$seed/grid-digit-lips.safetensors" "$folder" --json
    echo "seed $seed, voice alone, specialist:"; streamer eval "learned/grid-digit-voice-$seed/grid-digit-voice.safetensors" "$folder" --json
    echo "seed $seed, sound missing:";   streamer eval "$both" "$folder" --without audio --json
    echo "seed $seed, picture missing:"; streamer eval "$both" "$folder" --without video --json
    echo "seed $seed, both, clean:";     streamer eval "$both" "$folder" --json
    for snr in 0 -5 -10; do
        echo "seed $seed, both, $snr dB:"
        streamer eval "$both" "$folder" --snr "$snr" --noise "$folder/../speech/noise_*.flac" --json
        echo "seed $seed, sound alone, $snr dB:"
        streamer eval "$both" "$folder" --without video --snr "$snr" --noise "$folder/../speech/noise_*.flac" --json
    done
done
