#!/bin/sh
#
# test/sim/run.sh [folder]
#		Builds the simulator of the cache's protocol and runs it: unchanged, where it must find no
#		violation, and without each of the rules R1 to R22, where it must find one.
#
# SIM_SEEDS (1000) and SIM_FIRST (1) say which seeds; a mutant gets as many as it takes to
# find ten violations, and at most 1000.
# Builds into the folder, by default a temporary one.
set -eu

cd "$(dirname "$0")/../.."
seeds=${SIM_SEEDS:-1000}
first=${SIM_FIRST:-1}
if [ $# -gt 0 ]; then
	folder=$1
	mkdir -p "$folder"
else
	folder=$(mktemp -d)
	trap 'rm -rf "$folder"' EXIT
fi

build() # rule
{
	${CC:-cc} -std=gnu99 -O2 -Wall -Wextra -Werror -Isrc ${SIM_CFLAGS:-} -DSS_KNOCK_OUT="$1" \
		-o "$folder/sim-$1" test/sim/*.c src/protocol/*.c
}

status=0
build 0
"$folder/sim-0" --seeds "$seeds" --first "$first" || status=1
for rule in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do
	build $rule
	"$folder/sim-$rule" --seeds 1000 --first "$first" --expect-violation || status=1
done
exit $status
