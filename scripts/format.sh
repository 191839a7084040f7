# shellcheck shell=bash
#
# scripts/format.sh
#	./dev format: clang-format over the C sources.
#

cmd_format() {
	local clang_format files

	if ! clang_format=$(find_clang_format) && is_root && have apt-get &&
		apt-cache depends clang-format 2>/dev/null | grep 'clang-format-14$' >/dev/null; then
		install_packages clang-format
	fi
	clang_format=$(find_clang_format) ||
		die "clang-format version 14 is needed; others format otherwise"
	mapfile -d '' -t files < <(list_sources | grep -z '\.[ch]$')
	[ "${#files[@]}" -gt 0 ] || return 0
	cd -- "$repo"
	case ${1:-} in
		'') "$clang_format" -i "${files[@]}" ;;
		--check) "$clang_format" --dry-run -Werror "${files[@]}" ;;
		*) die "format takes --check or nothing" ;;
	esac
}
