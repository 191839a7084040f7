#!/usr/bin/env bash
# What backends wait for, with 2 and with 16 clients; a text, no comparison.
#
# session_get and session_save, and the SELECT and the upsert that one would write by hand, prepared,
# synchronous_commit off, on 100,000 sessions of 1 KB. While they run, pg_stat_activity is looked
# at some hundred times. With perf, one backend of ours is profiled as well, by the clock of its
# processor, in user space: what the kernel does for it is not in the second table.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

sessions=$(scale 100000 500)
looks=$(scale 400 20)
work=$(mktemp -d)
text=${BENCH_OUT:-$work}/waits.md
clients=	# pgbench in the background

stop_clients() {
	[ -z "$clients" ] || kill "$clients" 2>/dev/null || :
	[ -z "$clients" ] || wait "$clients" 2>/dev/null || :
	clients=
}
trap 'stop_clients; rm -rf "$work"' EXIT
cd "$work"

create_document_function
create_hand_table hand
fill_sessions "$sessions" hand
set_server synchronous_commit off
# a document as drivers send it: a parameter
document=$(sql "SELECT document(1024)")
other=$(sql "SELECT document(1024)")

script() { # NAME STATEMENT
	printf '%s\n' "\\set i random(1, $sessions)" "$2" >"$1"
}
script session_get "SELECT session_get('s' || :i, 'bench');"
script 'SELECT by hand' "SELECT session_data FROM hand WHERE session_id = 's' || :i AND expires_at > now();"
script session_save "SELECT session_save('s' || :i, CASE :i % 2 WHEN 0 THEN :document ELSE :other END::jsonb, namespace => 'bench');"
script 'upsert by hand' "INSERT INTO hand (session_id, session_data, expires_at)
	VALUES ('s' || :i, CASE :i % 2 WHEN 0 THEN :document ELSE :other END::jsonb, now() + interval '1 day') ON CONFLICT (session_id) DO UPDATE
	SET session_data = EXCLUDED.session_data, updated_at = now(), expires_at = EXCLUDED.expires_at;"

# The present wait of each backend, one a line, repeatedly.
look() {
	for ((k = 0; k < looks; k++)); do
		echo "SELECT CASE WHEN state = 'idle' THEN 'client' WHEN wait_event IS NULL THEN 'processor'
			ELSE wait_event_type || ' ' || wait_event END FROM pg_stat_activity WHERE application_name = 'waits';"
		echo "SELECT pg_sleep(0.01) \g /dev/null"
	done | psql -XqAt -v ON_ERROR_STOP=1
}

# Runs a script with so many clients, and leaves NAME.NUMBER.looks and, of ours, NAME.NUMBER.symbols; sets tps.
watch() { # NAME NUMBER
	local run=$1.$2 backend profiler=

	PGAPPNAME=waits pgbench -n -M prepared -c "$2" -j 2 -T "$seconds" -f "$1" -D document="$document" -D other="$other" >"$run.out" 2>&1 &
	clients=$!
	wait_for 30 "SELECT count(*) = $2 FROM pg_stat_activity WHERE application_name = 'waits' AND query LIKE '%''s''%'"
	if [ -n "$profile" ] && [[ $1 = session_* ]]; then
		backend=$(sql "SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'waits'")
		# it ends with the backend
		perf record -q -e cpu-clock:u -F 999 -o "$run.perf" -p "$backend" >/dev/null 2>&1 &
		profiler=$!
	fi
	look >"$run.looks"
	wait "$clients" || { cat "$run.out" >&2; return 1; }
	clients=
	if [ -n "$profiler" ]; then
		wait "$profiler" || :
		# shellcheck disable=SC2016 # the backticks are Markdown's
		perf report -i "$run.perf" --stdio --no-children -s symbol -F overhead,sym 2>/dev/null |
			sed -n 's/^ *\([0-9.]*\)%  *\[\(.\)\] \([^ ]*\).*/`\3` \1 %/p' | sort -t ' ' -k 2 -rn | awk 'NR <= 15' >"$run.symbols" || rm -f "$run.symbols"	# it came too late to see anything
	fi
	tps=$(sed -n 's/^tps = \([0-9]*\).*/\1/p' "$run.out")
}

# A row of the table, from the samples.
row() { # NAME NUMBER TPS
	awk -v name="$1" -v clients="$2" -v tps="$3" '
		{seen[$0]++}
		END {
			if (NR == 0)
				NR = 1
			printf "| %s | %d | %d | %.0f %% | %.0f %% |", name, clients, tps, 100 * seen["processor"] / NR, 100 * seen["client"] / NR
			delete seen["processor"]; delete seen["client"]
			while (length(seen) > 0) {
				most = ""
				for (event in seen)
					if (most == "" || seen[event] > seen[most])
						most = event
				printf "%s %s %.1f %%", (n++ ? "," : ""), most, 100 * seen[most] / NR
				delete seen[most]
			}
			print " |"
		}' "$1.$2.looks"
}

profile=
if perf record -q -e cpu-clock:u -o try -- true >/dev/null 2>&1 && perf report -i try --stdio >/dev/null 2>&1; then
	profile=yes
fi
numbers=$(scale '2 16' 2)
seconds=$(scale 8 2)
columns=()	# files of symbols
# shellcheck disable=SC2016 # likewise
{
	printf '### What backends wait for\n\n'
	printf 'Prepared, synchronous_commit off, %s sessions of 1 KB; shares of what was seen in pg_stat_activity.\n' "$sessions"
	printf 'A backend that waits for nothing is on a processor or stands in line for one, and with more clients than processors it mostly stands in line; '
	printf 'one that is idle has answered, and its client has not sent the next call. What is left are the waits of Postgres, by type and name.\n\n'
	printf '| call | clients | calls/s | processor | its client | other waits |\n|---|---:|---:|---:|---:|---|\n'
	for name in session_get 'SELECT by hand' session_save 'upsert by hand'; do
		for number in $numbers; do
			watch "$name" "$number"
			row "$name" "$number" "$tps"
			progress "$name with $number clients"
			[ ! -s "$name.$number.symbols" ] || columns+=("$name.$number.symbols")
		done
	done
	if [ "${#columns[@]}" -eq 0 ]; then
		printf '\nThere was no `perf` to say where the time on the processor goes.\n\n'
	else
		printf '\nWhere one backend of ours spends its time on the processor in user space, by `perf`, with its share:\n\n|'
		printf ' %s |' "${columns[@]}" | sed 's/\.\([0-9]*\)\.symbols/, \1 clients/g'
		printf '\n|'
		printf '%.0s---|' "${columns[@]}"
		printf '\n'
		paste -d '|' "${columns[@]}" | sed 's/|/ | /g; s/^/| /; s/$/ |/'
		printf '\n'
	fi
} >"$text"
[ -n "${BENCH_OUT:-}" ] || cat "$text"
