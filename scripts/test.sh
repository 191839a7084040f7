# shellcheck shell=bash
#
# scripts/test.sh
#	./dev test: runs steps, and counts what passed and what failed. A step WHAT is the
#	function step_WHAT of another script.
#

pass() {
	passed=$((passed + $1))
}

fail() {
	failed=$((failed + $1))
}

# One result: counts and prints it.
verdict() {	# STATUS WHAT
	if [ "$1" -eq 0 ]; then
		pass 1
		say "ok      $2"
	else
		fail 1
		say "FAILED  $2"
	fi
}

skip() {
	say "skipped $*"
}

# Print and count the results of pg_regress, of its isolation cousin (up to 15:
# "test name ... ok 12 ms", since 16: "ok 1 - name 12 ms").
count_regress() {	# LOG STATUS
	local bad good

	grep -E '^(test .* \.\.\. |ok +[0-9]|not ok +[0-9])' "$1" || :
	good=$(grep -cE '^test .* \.\.\. ok |^ok +[0-9]' "$1") || :
	bad=$(grep -cE '^test .* \.\.\. FAILED|^not ok +[0-9]' "$1") || :
	pass "$good"
	fail "$bad"
	if [ "$2" -ne 0 ] && [ "$bad" -eq 0 ]; then
		verdict 1 "pg_regress itself"
		show_tail 40 "$1"
	fi
}

# Prints and counts the results of one TAP file: subtests are indented, a TODO is no failure, a skipped
# test does not count.
count_tap() {	# FILE LOG STATUS
	local bad good seconds=$4

	good=$(grep -E '^ok [0-9]+' "$2" | grep -cviE '# skip') || :
	bad=$(grep -E '^not ok [0-9]+' "$2" | grep -cviE '# todo') || :
	[ "$3" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1	# it died, or ran too long
	pass "$good"
	fail "$bad"
	if [ "$bad" -eq 0 ]; then
		say "ok      $1: $good tests, $seconds s"
		grep -iE '^ok .*# skip|skipped: ' "$2" | sed 's/^/        /' || :
	else
		say "FAILED  $1: $good passed, $bad failed, $seconds s"
	fi
}

# As count_tap, with the status and the seconds in the last line of the log. False if the test failed.
count_tap_log() {	# FILE LOG
	local rc seconds

	read -r rc seconds < <(sed -n '$s/^dev: //p' "$2" 2>/dev/null) || rc=1 seconds='?'
	count_tap "$1" "$2" "$rc" "$seconds"
	[ "$rc" -eq 0 ]
}

# Failures first, with what was got and expected, because a reader may cut the output short. Why a test
# died is only at the end of its own log.
show_tap_failure() {	# NAME LOG
	local log own=$work/src/tmp_check/log/regress_log_$1

	grep -E '^not ok' "$2" | head -n 40 | sed 's/^/    /' || :
	if [ -e "$own" ]; then
		grep -A 8 'Failed test' "$own" | cut -c1-300 | head -n 80 | sed 's/^/    /' || :
		tail -n 60 -- "$own" | grep -vE '^(#|waiting|server )|^\[[0-9:.]+\]\([0-9.]+s\) (ok|#)' |
			tail -n 15 | cut -c1-300 | sed 's/^/    /' || :
	fi
	show_tail 80 "$2"
	for log in "$work/src/tmp_check/log/$1"*; do
		show_tail 40 "$log"
	done
}

# No server process may have crashed, even if every result was right.
check_crashes() {	# NAME
	local log=$work/log/$1.log

	if grep -nE 'PANIC: |TRAP: |was terminated by signal|ERROR: AddressSanitizer|runtime error: ' "$log"; then
		show_tail 60 "$log"
		verdict 1 "no crash in the log of the server ($1)"
	fi
}

is_step() {
	declare -F "step_$1" >/dev/null
}

# Whether names of tests may follow a step.
takes_names() {	# STEP
	[[ $1 =~ ^(regress|isolation|tap|clients)( |$) ]]
}

# Set steps from arguments: each step with the names that follow it.
read_steps() {	# WORD..
	local word

	for word in "$@"; do
		if is_step "$word"; then
			steps+=("$word")
		elif [ "${#steps[@]}" -gt 0 ] && takes_names "${steps[-1]}"; then
			steps[-1]+=" $word"
		else
			die "no such test step: $word (see ./dev help)"
		fi
	done
}

# Run a step, framed by its name and its duration.
run_step() {	# STEP ARG..
	local start=$SECONDS good=$passed bad=$failed

	say "=== $*"
	"step_$1" "${@:2}"
	say "=== $1: $((passed - good)) passed, $((failed - bad)) failed in $((SECONDS - start)) s"
}

run_steps() {
	local -a words
	local step

	copy_sources "$work/src"
	for step in "${steps[@]}"; do
		read -r -a words <<<"$step"
		run_step "${words[@]}"
	done
	summary_complete=yes
}

cmd_test() {
	local -a steps=()

	read_steps "$@"
	[ $# -gt 0 ] ||
		steps=(format build meta unit sim regress isolation nopreload tour tap clients nemesis fuzz bench)
	summary_due=yes
	if [[ " ${steps[*]} " = *' bench '* ]]; then need test bench; else need test; fi
	open_work
	use_copied_postgres
	run_steps
}
