# shellcheck shell=bash
#
# scripts/steps_build.sh
#	Steps that need no server: format, build, meta, unit and sim.
#

step_format() {
	local clang_format files

	if ! clang_format=$(find_clang_format); then
		skip "format: clang-format 14 is not here"
		return 0
	fi
	mapfile -d '' -t files < <(list_sources | grep -z '\.[ch]$')
	[ "${#files[@]}" -gt 0 ] || return 0
	if run_test "$work/log/format.log" env -C "$work/src" \
		"$clang_format" --dry-run -Werror "${files[@]}"; then
		verdict 0 "format of ${#files[@]} files"
	else
		head -n 60 "$work/log/format.log"
		verdict 1 "format (./dev format puts it right)"
	fi
}

# gcc, in the copy of the sources that is then installed; clang, in a copy of its own.
step_build() {
	local clang

	build_with_gcc
	verdict 0 "build with gcc"
	check_dependencies
	clang=$(find_clang)
	copy_sources "$work/clang"
	if run_test "$work/log/clang.log" make -s -C "$work/clang" "${make_args[@]}" \
		CC="$clang"; then
		verdict 0 "build with $clang"
	else
		show_tail 60 "$work/log/clang.log"
		verdict 1 "build with $clang"
	fi
	check_exports "$work/src" "built with gcc"
	build_elsewhere
	if [ -n "$(gcc -print-file-name=libhiredis.a | grep /)" ]; then
		build_static || {
			show_tail 60 "$work/log/static.log"
			verdict 1 "build with a static hiredis"
			return 0
		}
		check_exports "$work/static" "built with a static hiredis"
	fi
}

# Compares what make would compile after a change of one header with the sources that include it.
check_dependencies() {
	local rc=0 header log=$work/log/dependencies.log

	header=$(cd -- "$work/src" && ls src/*/*.h | head -n 1)
	diff <(cd -- "$work/src" && grep -lF " $header" src/*.o.d src/*/*.o.d | sed 's/\.o\.d$/.c/' | sort) \
		<(make -n -C "$work/src" "${make_args[@]}" -W "$header" | sed -n 's/.* \(src\/[^ ]*\.c\)$/\1/p' | sort) \
		>"$log" 2>&1 || rc=1
	[ "$rc" -eq 0 ] || show_tail 20 "$log"
	verdict "$rc" "after a change of $header make compiles what includes it"
}

# Builds in another folder than that of the sources, as pg_buildext does: the library is the same, and
# the sources are unchanged.
build_elsewhere() {
	local rc=0 log=$work/log/elsewhere.log sources=$work/elsewhere-src build=$work/elsewhere

	rm -rf -- "$sources" "$build"
	copy_sources "$sources"
	make_user_dir "$build"
	run_test "$log" make -s -C "$build" -f "$sources/Makefile" "${make_args[@]}" VPATH="$sources" USE_PGXS=1 || rc=1
	diff <(exported_symbols "$work/src") <(exported_symbols "$build") >>"$log" 2>&1 || rc=1
	[ -z "$(find "$sources" -newer "$build" -type f)" ] || rc=1
	[ -e "$build/$extension--$(make -s -C "$work/src" "${make_args[@]}" print-version).sql" ] || rc=1
	[ "$rc" -eq 0 ] || show_tail 30 "$log"
	verdict "$rc" "a build in another folder makes the same library"
}

build_static() {
	copy_sources "$work/static"
	run_test "$work/log/static.log" make -s -C "$work/static" "${make_args[@]}" HIREDIS_STATIC=1
}

exported_symbols() {	# FOLDER
	nm -D --defined-only "$1/$extension.so" | awk '{print $3}' | sort
}

# Servers load all libraries into one name space: ours exports the symbols that the server looks up,
# and none of hiredis or of our own files that another library could have as well.
check_exports() {	# FOLDER WHAT
	local rc=0 others

	others=$(exported_symbols "$1" |
		grep -vE '^(Pg_magic_func|_PG_init|ss_(launcher|keeper|pusher)_main|(pg_finfo_)?session_[a-z_]+_[0-9]+_[0-9]+)$') || :
	[ -z "$others" ] || rc=1
	[ "$rc" -eq 0 ] || printf '%s\n' "$others" | head -n 20 | sed 's/^/    /'
	verdict "$rc" "the library exports what the server looks up alone ($2)"
}

# The control file has the version; META.json repeats it for PGXN. test/architecture/folders.list says
# which folder of src/ may include which.
step_meta() {
	local rc=0

	perl -MJSON::PP -e '
		sub slurp { open my $f, "<", $_[0] or die "$_[0]: $!\n"; local $/; <$f> }
		my ($name, $dir) = @ARGV;
		my $control = slurp("$dir/$name.control");
		my %is = map { $_ => $control =~ /^$_\s*=\s*\x27(.*)\x27/m ? $1 : "" } qw(default_version comment);
		my $meta = decode_json(slurp("$dir/META.json"));
		my $provides = $meta->{provides}{$name};
		my @bad;
		push @bad, "name" if $meta->{name} ne $name;
		push @bad, "version" if $meta->{version} ne $is{default_version};
		push @bad, "description" if $meta->{description} ne $is{comment};
		push @bad, "provides.$name.version" if $provides->{version} ne $is{default_version};
		push @bad, "provides.$name.file" if ! -e "$dir/$provides->{file}";
		die "META.json differs from the control file: @bad\n" if @bad;
	' "$extension" "$work/src" || rc=1
	verdict "$rc" "META.json agrees with $extension.control"
	rc=0
	perl "$work/src/test/architecture/check.pl" || rc=1
	verdict "$rc" "the structure of src/ is that of test/architecture/folders.list"
}

# A unit test has many checks: each program counts as one.
step_unit() {
	local rc=0 log=$work/log/unit.log

	if ! compgen -G "$work/src/test/unit/*.c" >/dev/null; then
		skip "unit: no test/unit/*.c"
		return 0
	fi
	run_test "$log" make -s -C "$work/src" "${make_args[@]}" unit-check || rc=$?
	[ "$rc" -eq 0 ] || show_tail 60 "$log"
	verdict "$rc" "unit tests, with address and undefined behaviour sanitizers"
	sed -n 's/^seed\|^[0-9]* passed/        &/p' "$log"

	rc=0
	log=$work/log/clocks.log
	run_test "$log" make -s -C "$work/src" "${make_args[@]}" clock-check || rc=$?
	[ "$rc" -eq 0 ] || show_tail 60 "$log"
	verdict "$rc" "points in time of different clocks are not mixed"
}

# The protocol of the cache under simulated faults, and without each of its rules.
step_sim() {
	local rc=0 log=$work/log/sim.log

	run_test "$log" bash "$work/src/test/sim/run.sh" || rc=$?
	if [ "$rc" -eq 0 ]; then
		sed 's/^/        /' "$log"
	else
		show_tail 60 "$log"
	fi
	verdict "$rc" "the simulator finds no violation, and one without each of the rules"
}
