/*
 * plan.c
 *		The plan of a run: databases, keys, scenes, and the threads that take part.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"

Key keys[KEYS];
Database dbs[DBS] = {{.name = "nemesis",
					  .redis = 0,
					  .first = 0,
					  .half = KEYS_REUSED,
					  .first_tail = FIRST_TAIL,
					  .tails = KEYS_TAIL,
					  .turn_tails = KEYS_TURN},
					 {.name = "nemesis2",
					  .redis = 1,
					  .first = FIRST_SECOND,
					  .half = KEYS_SECOND,
					  .first_tail = FIRST_TAIL2,
					  .tails = KEYS_TAIL2}};

static const char *const scene_names[SCENES] = {"bulk",   "switch", "dark",  "tails",
												"hand",   "bury",   "forks", "second",
												"policy", "calls",  "turns"};

/* Names the keys. */
void
plan_keys(void)
{
	/* a touch may give a ttl of 81 s: an eighth */
	static const int64_t slack = 10125 * MS;
	static const struct
	{
		const char *ns;
		const char *prefix;
		const char *id;
		int count;
		int64_t life;
		int db;
		const char *tail;  /* its prefix */
		const char *other; /* another prefix, or NULL */
	} stretches[] = {{"reused", "nr:", "r", KEYS_REUSED, 5 * SEC, 0, NULL, NULL},
					 {"buried", "nb:", "d", KEYS_BURIED, slack, 0, NULL, NULL},
					 {"bulk", "nk:", "b", KEYS_BULK, 5 * SEC, 0, NULL, NULL},
					 {"switch", "ns:", "s", KEYS_SWITCH, 5 * SEC, 0, NULL, NULL},
					 {"talk", "nh:", "t", KEYS_TAIL, 5 * SEC, 0, "nt:", NULL},
					 {"turn", "nw:", "w", KEYS_TURN, 5 * SEC, 0, "nx:", NULL},
					 {"reused", "nr:", "u", KEYS_LATE, 5 * SEC, 0, NULL, NULL},
					 {"reused", "nr:", "r", KEYS_SECOND, 5 * SEC, 1, NULL, NULL},
					 {"buried", "nb:", "d", KEYS_SECOND, slack, 1, NULL, NULL},
					 {"talk", "nh:", "t", KEYS_TAIL2, 5 * SEC, 1, "nt:", NULL},
					 {"dark", "nd:", "x", KEYS_DARK, 5 * SEC, 1, NULL, NULL},
					 {"policy", "np:", "p", KEYS_KEPT, slack, 0, NULL, "xnp:"},
					 {"policyb", "nq:", "q", KEYS_POLICY - KEYS_KEPT, slack, 0, NULL, "xnq:"},
					 {"turn", "nw:", "w", KEYS_TURN, 5 * SEC, 0, NULL, NULL}};
	int k = 0;

	for (size_t s = 0; s < sizeof(stretches) / sizeof(stretches[0]); s++)
		for (int i = 0; i < stretches[s].count; i++, k++)
		{
			keys[k].ns = stretches[s].ns;
			keys[k].prefix = stretches[s].prefix;
			snprintf(keys[k].id, sizeof(keys[k].id), "%s%d", stretches[s].id, i);
			keys[k].tail = stretches[s].tail != NULL;
			snprintf(keys[k].name, sizeof(keys[k].name), "%s%s%d",
					 keys[k].tail ? stretches[s].tail : stretches[s].prefix, stretches[s].id, i);
			snprintf(keys[k].shown, sizeof(keys[k].shown), "%s%s%d%s",
					 keys[k].tail ? stretches[s].tail : stretches[s].prefix, stretches[s].id, i,
					 stretches[s].db == 0 ? "" : " of the second database");
			if (stretches[s].other != NULL)
				snprintf(keys[k].other, sizeof(keys[k].other), "%s%s%d", stretches[s].other,
						 stretches[s].id, i);
			keys[k].life = stretches[s].life;
			keys[k].db = stretches[s].db;
			keys[k].buried = strcmp(keys[k].ns, "buried") == 0;
		}
	if (k != KEYS)
		die("the stretches of keys do not add up");
}

/* "all", "none", or names with commas between. */
void
plan_scenes(const char *list)
{
	char copy[200];
	char *rest;

	snprintf(copy, sizeof(copy), "%s", list);
	run.scenes = 0;
	for (char *word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
	{
		bool found = strcmp(word, "none") == 0;

		for (int i = 0; i < SCENES; i++)
			if (strcmp(word, "all") == 0 || strcmp(word, scene_names[i]) == 0)
			{
				run.scenes |= 1U << i;
				found = true;
			}
		if (found)
			continue;
		say("there is no scene \"%s\"; there are: all none", word);
		for (int i = 0; i < SCENES; i++)
			say("  %s", scene_names[i]);
		exit(2);
	}
}

/* What the seed determines before anything begins. */
void
plan_draw(void)
{
	static const int64_t leases[] = {500 * MS, 1000 * MS, 2000 * MS};
	static const int64_t offsets[] = {0, 37 * SEC, -41 * SEC};
	uint64_t random = run.seed;

	if (run.lease == 0)
		run.lease = leases[between(&random, 0, 2)];
	else
		(void) draw(&random);
	run.clock_offset = offsets[between(&random, 0, 2)];
	say("seed %llu: lease %.3f s, Redis' clock is off by %lld s, faults: %s",
		(unsigned long long) run.seed, (double) run.lease / 1e6,
		(long long) (run.clock_offset / SEC), run.faults);
}

static void
add_tasks(Task *tasks, int *n, int count, void *(*body)(void *), int db, int scene)
{
	for (; count > 0 && (scene == SCENES || HAS_SCENE(scene)); count--, (*n)++)
	{
		if (*n == THREADS)
			die("too many threads");
		tasks[*n].body = body;
		tasks[*n].db = db;
		tasks[*n].scene = scene;
	}
}

/* Starts the threads that take part; returns their number. */
int
plan_cast(Task *tasks)
{
	int n = 0;

	add_tasks(tasks, &n, 8, writer, 0, SCENES);
	add_tasks(tasks, &n, 2, reader_plain, 0, SCENES);
	add_tasks(tasks, &n, 2, reader_strong, 0, SCENES);
	add_tasks(tasks, &n, 1, monitor, 0, SCENES);
	add_tasks(tasks, &n, 1, bulk_writer, 0, SCENE_BULK);
	add_tasks(tasks, &n, 1, switcher, 0, SCENE_SWITCH);
	add_tasks(tasks, &n, 1, filler, 0, SCENES);
	add_tasks(tasks, &n, 3, tail_writer, 0, SCENE_TAILS);
	add_tasks(tasks, &n, 4, forker, 0, SCENE_FORKS);
	add_tasks(tasks, &n, 2, leaver, 0, SCENE_FORKS);
	add_tasks(tasks, &n, 2, writer, 1, SCENE_SECOND);
	add_tasks(tasks, &n, 1, filler, 1, SCENE_SECOND);
	add_tasks(tasks, &n, 1, tail_writer, 1, SCENE_SECOND);
	add_tasks(tasks, &n, 1, dark_switcher, 1, SCENE_DARK);
	add_tasks(tasks, &n, 1, policy_changer, 0, SCENE_POLICY);
	add_tasks(tasks, &n, 2, policy_writer, 0, SCENE_POLICY);
	add_tasks(tasks, &n, 3, hitter, 0, SCENE_CALLS);
	add_tasks(tasks, &n, 1, sql_reader, 0, SCENE_CALLS);
	add_tasks(tasks, &n, 1, sql_reader, 1, SCENE_CALLS);
	add_tasks(tasks, &n, 6, turn_holder, 0, SCENE_TURNS);
	add_tasks(tasks, &n, 1, turn_reader, 0, SCENE_TURNS);
	add_tasks(tasks, &n, 1, reader_plain, 1, SCENES);
	add_tasks(tasks, &n, 1, reader_strong, 1, SCENES);
	return n;
}
