#!/usr/bin/env bash
# Three nights of a generated shop in a few minutes: examples/nightly/nightly.sh [FOLDER] [FLAGS OF redraft nightly]
set -euo pipefail
folder=${1:-runs/nightly}
here=$(dirname "$0")
model=(--first.levels 3 --first.codebook-size 32 --first.epochs 14
       --first.model.width 64 --first.model.embedding 64 --first.model.feed-forward 256 --first.model.encoder-layers 2)
for night in 1 2 3; do
    python "$here/shop.py" "$folder/shop" $night
    redraft nightly "$folder/nights" --events "$folder/shop/events" --items "$folder/shop/items.csv" \
        --attributes category brand "${model[@]}" "${@:2}"
done
