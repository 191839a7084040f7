#!/usr/bin/env bash
# Reads of eight clients that never see a session that was logged out: from Redis, against SQL.
#
# Ours is the strong read, MGET of the lease and the session through hiredis, with session_get when there is
# no lease. The other side is the application that reads its own table, with a prepared SELECT .. AND
# expires_at > now() through libpq, and once more session_get instead. Each document that is read is looked at,
# and before the rounds every copy is compared with the table; a copy that is missing fails the run.
#
# A document is a cart: an array of items of some 100 bytes with five members each. Of large documents there are
# fewer, so that all are in memory on both sides. What SQL has to do for a large one, and Redis has not, is to put it
# together from its TOAST chunks, to decompress it, and to make text of a jsonb.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

build_client
create_hand_table hand
start_cache
sql "CREATE FUNCTION document(bytes int, n bigint) RETURNS jsonb LANGUAGE sql VOLATILE PARALLEL SAFE AS \$\$
	SELECT jsonb_build_object('n', n, 'user', md5(n::text), 'items', jsonb_agg(jsonb_build_object('id', (random() * 99999)::int,
		'name', left(md5(random()::text), 16), 'price', round((random() * 100)::numeric, 2), 'quantity', i % 4 + 1,
		'added', to_timestamp(1700000000 + i * 60 + n * 3600))))
	FROM generate_series(1, (bytes - 70) / 118) i \$\$"

# alternate strong-KB ..
compare() {	# KB SESSIONS
	local bytes=$(($1 * 1024))

	sql "TRUNCATE conversation_sessions, hand"
	fill_cache "$2" "$bytes"
	./client -a -b "$bytes" verify 8 0 "$2" >/dev/null
	alternate "strong-$1" "client_rate $2 -b $bytes strong 8" "client_rate $2 -b $bytes select 8"
	# the upper limit: a read without the lease
	./client -a -b "$bytes" redis_set 8 0 "$2" >/dev/null
	alternate "strong-$1-ceiling" "client_rate $2 -b $bytes redis_get 8" "client_rate $2 -b $bytes select 8"
	[ "$1" != 1 ] || alternate strong-get-1 "client_rate $2 strong 8" "client_rate $2 get 8"
}

compare 1 "$(scale 100000 1000)"
compare 10 "$(scale 10000 100)"
compare 50 "$(scale 2000 20)"
