/*
 * scripts.h
 *		The Lua scripts of the requests of the protocol.  Each request is one script, and so
 *		atomic.
 *
 * KEYS[1] is the lease, KEYS[2] the guard, a hash with the fields owner (system/database/timeline),
 * epoch, last (the id of the last batch), and p:PREFIX for each prefix under which we ever wrote.
 * Times are microseconds of Redis' clock, but milliseconds in Redis commands.
 *
 * Each reply begins with OK, LATE or LOST and the time.
 */
#ifndef SS_SCRIPTS_H
#define SS_SCRIPTS_H

#define LUA_TIME                     \
	"local t = redis.call('TIME')\n" \
	"local now = t[1] * 1000000 + t[2]\n"

/* ARGV: deadline, owner, epoch, own id, number and ids of the possible predecessors */
#define LUA_CHAIN                                                                               \
	LUA_TIME                                                                                    \
	"if now > tonumber(ARGV[1]) then return {'LATE', t[1], t[2]} end\n"                         \
	"local g = redis.call('HMGET', KEYS[2], 'owner', 'epoch', 'last')\n"                        \
	"local known = ARGV[5] == '0'\n"                                                            \
	"for i = 6, 5 + ARGV[5] do known = known or g[3] == ARGV[i] end\n"                          \
	"if g[1] ~= ARGV[2] or g[2] ~= ARGV[3] or not known then return {'LOST', t[1], t[2]} end\n" \
	"local a = 6 + ARGV[5]\n"

/* {'OK', s, us, leased, guard as a flat list} */
static const char script_probe[] = LUA_TIME
	"return {'OK', t[1], t[2], redis.call('EXISTS', KEYS[1]), redis.call('HGETALL', KEYS[2])}";

/*
 * ARGV: deadline; expected owner, epoch and id (empty: no guard); new owner, epoch and id;
 * prefixes
 */
static const char script_claim[] = LUA_TIME
	"if now > tonumber(ARGV[1]) then return {'LATE', t[1], t[2]} end\n"
	"local g = redis.call('HMGET', KEYS[2], 'owner', 'epoch', 'last')\n"
	"for i = 1, 3 do\n"
	"  if (g[i] or '') ~= ARGV[i + 1] then return {'LOST', t[1], t[2]} end\n"
	"end\n"
	"redis.call('DEL', KEYS[1])\n"
	"redis.call('HSET', KEYS[2], 'owner', ARGV[5], 'epoch', ARGV[6], 'last', ARGV[7])\n"
	"for i = 8, #ARGV do redis.call('HSET', KEYS[2], 'p:' .. ARGV[i], '1') end\n"
	"return {'OK', t[1], t[2]}";

/*
 * Further ARGV: the lease (K keep, D delete, or S set, each with a time), and for each further
 * key D (delete), E and a time (set the expiry), or S, a time and the value (set).
 *
 * If Redis is out of memory it refuses SET, and would refuse all commands after it; such a key
 * is deleted instead.  The first DEL also counts as a write, after which Redis allows the
 * small writes of the guard.  Returns the number of refused values, and the keys that did not
 * exist when their expiry should be set.
 */
static const char script_batch[] = LUA_CHAIN
	"local missing, refused = {}, 0\n"
	"local lease = a\n"
	"a = a + 2\n"
	"for k = 3, #KEYS do\n"
	"  local what = ARGV[a]\n"
	"  if what == 'S' and tonumber(ARGV[a + 1]) * 1000 > now then\n"
	"    local r = redis.pcall('SET', KEYS[k], ARGV[a + 2], 'PXAT', ARGV[a + 1])\n"
	"    if r['err'] then\n"
	"      refused = refused + 1\n"
	"      redis.call('DEL', KEYS[k])\n"
	"    end\n"
	"  elseif what == 'E' then\n"
	"    if redis.call('PEXPIREAT', KEYS[k], ARGV[a + 1]) == 0 then missing[#missing + 1] = k end\n"
	"  else\n"
	"    redis.call('DEL', KEYS[k])\n"
	"  end\n"
	"  a = a + (what == 'S' and 3 or what == 'E' and 2 or 1)\n"
	"end\n"
	"if ARGV[lease] ~= 'K' then redis.call('DEL', KEYS[1]) end\n"
	"if refused == 0 and #KEYS == 2 and ARGV[lease] == 'K' then redis.call('DEL', KEYS[2] .. ':none') end\n"
	"redis.call('HSET', KEYS[2], 'last', ARGV[4])\n"
	"if ARGV[lease] == 'S' and tonumber(ARGV[lease + 1]) * 1000 > now then\n"
	"  redis.call('SET', KEYS[1], ARGV[4], 'PXAT', ARGV[lease + 1])\n"
	"end\n"
	"return {'OK', t[1], t[2], refused, missing}";

/*
 * Further ARGV: a cursor, the number of keys to scan, and for each prefix K (keep) or G (given
 * up with this flush) and the prefix.  Returns the next cursor, the number of deleted keys,
 * and a prefix under which there was a key that we may not delete.
 */
static const char script_flush[] = LUA_CHAIN
	"local r = redis.call('SCAN', ARGV[a], 'COUNT', ARGV[a + 1])\n"
	"local gone, denied = 0, ''\n"
	"for _, key in ipairs(r[2]) do\n"
	"  for i = a + 3, #ARGV, 2 do\n"
	"    if string.sub(key, 1, #ARGV[i]) == ARGV[i] then\n"
	"      local n = redis.pcall('UNLINK', key)\n"
	"      if type(n) ~= 'table' then\n"
	"        gone = gone + n\n"
	"      elseif string.find(n['err'], 'ACL') or string.find(n['err'], 'access') then\n"
	"        denied = ARGV[i]\n"
	"      else\n"
	"        return n\n"
	"      end\n"
	"      break\n"
	"    end\n"
	"  end\n"
	"end\n"
	"redis.call('DEL', KEYS[2] .. ':none')\n"
	"redis.call('HSET', KEYS[2], 'last', ARGV[4])\n"
	"for i = a + 2, #ARGV, 2 do\n"
	"  if ARGV[i] == 'K' then\n"
	"    redis.call('HSET', KEYS[2], 'p:' .. ARGV[i + 1], '1')\n"
	"  elseif r[1] == '0' and denied == '' then\n"
	"    redis.call('HDEL', KEYS[2], 'p:' .. ARGV[i + 1])\n"
	"  end\n"
	"end\n"
	"return {'OK', t[1], t[2], r[1], gone, denied}";

/* Does nothing: Redis checks the access to the key before it runs a script. */
static const char script_access[] = "return KEYS[1]";

static const char script_remove[] = LUA_CHAIN "redis.call('DEL', KEYS[1], KEYS[2])\n"
											  "return {'OK', t[1], t[2]}";

#endif
