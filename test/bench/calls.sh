#!/usr/bin/env bash
# One client that reads and saves sessions, against the SQL that one would write by hand.
#
# The other side is the table of an application that keeps its own: a primary key, an index on
# expires_at, an upsert, SELECT .. AND expires_at > now().
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

sessions=$(scale 100000 1000)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

create_document_function
create_hand_table hand
create_hand_table unlogged_hand UNLOGGED
fill_sessions "$sessions" hand unlogged_hand
write_calls "$sessions" hand unlogged_hand
echo "SELECT 1;" >floor

calls() { # PROTOCOL FILE
	bench_tps "$1" 1 "$2"
}
# the same by statements, as for a table with triggers of users
calls_by_statement() {
	PGOPTIONS='-c session_store.direct_rows=off' calls "$@"
}
saves_by_statement() {
	PGOPTIONS='-c session_store.direct_rows=off' saves "$@"
}
saves() { # PROTOCOL FILES
	save_tps "$1" 1 "$2"
}

alternate get-unnamed "calls extended get_ours" "calls extended get_hand"
# the upper limit: a call that costs only the round trip
alternate get-unnamed-ceiling "calls extended floor" "calls extended get_hand"
alternate get-simple "calls simple get_ours" "calls simple get_hand"
alternate get-simple-ceiling "calls simple floor" "calls simple get_hand"
alternate get-prepared "calls prepared get_ours" "calls prepared get_hand"
alternate get-floor "calls prepared get_ours" "calls prepared floor"
alternate select-floor "calls prepared get_hand" "calls prepared floor"
alternate get-direct "calls prepared get_ours" "calls_by_statement prepared get_ours"
set_server synchronous_commit off
alternate save-unnamed "saves extended save_ours" "saves extended save_hand"
alternate save-prepared "saves prepared save_ours" "saves prepared save_hand"
alternate save-direct "saves prepared save_ours" "saves_by_statement prepared save_ours"
alternate save-unlogged "saves prepared save_ours" "saves prepared save_unlogged_hand"
set_server synchronous_commit on
alternate save-prepared-sync "saves prepared save_ours" "saves prepared save_hand"
