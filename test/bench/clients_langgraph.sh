#!/usr/bin/env bash
# Checkpoints of LangGraph: @langchain/langgraph-checkpoint-postgres against session_store/langgraph.
#
# One client, a pg.Pool on each side. Each round makes new threads, and then lets the two take turns
# (clients/langgraph.js): a turn reads the latest checkpoint, puts the writes of a step, and the checkpoint after it. A
# step at the end of a long thread has to cost what one at its beginning does (langgraph-put-flat, langgraph-get-flat).
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
node_folder "$work"
cd "$work"
declare -A each=()

round() {	# NUMBER STEPS
	local side what value

	while read -r side what value; do
		each[$side-$what-$2]=$value
		progress "$2 steps $1/$ROUNDS: $side $what $value"
		case $what in
			getTuple) sample "langgraph-get-$2" "$side" "$1" "$value" ;;
			put) sample "langgraph-put-$2" "$side" "$1" "$value" ;;
			putWrites) sample "langgraph-writes-$2" "$side" "$1" "$value" ;;
			bytes) sample "langgraph-bytes-$2" "$side" "$1" "$value" ;;
		esac
	done < <(node langgraph.js "$(scale "$2" $((2 + $2 / 50)))" "$(scale "$SECONDS_EACH" 0.2)")
	[ -n "${each[theirs-put-$2]:-}" ] || { echo "langgraph.js has failed" >&2; return 1; }
}

duration() {	# OPERATION STEPS
	awk -v rate="${each[ours-$1-$2]}" 'BEGIN {print 1e6 / rate}'
}

for ((number = 1; number <= ROUNDS; number++)); do
	each=()
	for steps in 10 1000; do
		round "$number" "$steps"
	done
	for side in "ours 1000" "theirs 10"; do
		read -r side steps <<<"$side"
		sample langgraph-put-flat "$side" "$number" "$(duration put "$steps")"
		sample langgraph-get-flat "$side" "$number" "$(duration getTuple "$steps")"
	done
done
