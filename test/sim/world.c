/*
 * world.c
 *		Random numbers, time and events.
 *
 * Events of the same time happen in the order in which they were posted.  A pusher that is preempted
 * (ss_ledger_lock below) lets the world continue inside its own event; what happens to that pusher
 * meanwhile, and every new fault, waits until it continues.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

World w;
Totals totals;
bool verbose;

static Event *heap;
static int heaped;
static int heap_room;
static uint64_t orders;

uint64_t
draw(void)
{
	/* splitmix64 */
	uint64_t z = (w.random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

int64_t
between(int64_t low, int64_t high)
{
	return high <= low ? low : low + (int64_t) (draw() % (uint64_t) (high - low + 1));
}

/* As between, but each order of magnitude has the same probability. */
int64_t
spread(int64_t low, int64_t high)
{
	int64_t top = low;

	while (top < high && (draw() & 3) != 0)
		top *= 2;
	return between(low, top > high ? high : top);
}

bool
chance(int in_a_million)
{
	return (int64_t) (draw() % 1000000) < in_a_million;
}

static bool
earlier(const Event *a, const Event *b)
{
	return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void
push(const Event *event)
{
	int i = heaped++;

	if (heaped > heap_room)
	{
		heap_room = heap_room == 0 ? 256 : heap_room * 2;
		heap = realloc(heap, sizeof(Event) * heap_room);
	}
	for (; i > 0 && earlier(event, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = *event;
}

static Event
pop(void)
{
	Event first = heap[0];
	Event last = heap[--heaped];
	int i = 0;

	for (;;)
	{
		int child = 2 * i + 1;

		if (child >= heaped)
			break;
		if (child + 1 < heaped && earlier(&heap[child + 1], &heap[child]))
			child++;
		if (!earlier(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return first;
}

void
post(int64_t at, EventKind kind, int node, uint64_t a, uint64_t b, void *p)
{
	Event event = {at < w.now ? w.now : at, ++orders, kind, node, a, b, p};

	push(&event);
}

void
events_clear(void)
{
	for (int i = 0; i < heaped; i++)
		if (heap[i].kind == EVENT_ARRIVE || heap[i].kind == EVENT_REPLY)
			free(heap[i].p);
	heaped = 0;
}

static void
happen(const Event *event)
{
	Node *node = &w.node[event->node];

	totals.events++;
	switch (event->kind)
	{
		case EVENT_BACKEND:
			if (node->up && node->backend[event->a].serial == event->b)
				backend_step(node, (int) event->a);
			break;
		case EVENT_READER:
			check_reader();
			break;
		case EVENT_FAULT:
			fault_strike();
			break;
		case EVENT_RESTORE:
			fault_restore(event);
			break;
		case EVENT_SAVE:
			if (w.redis.up && !w.redis.hung)
				w.redis.saved = w.redis.data;
			if (!w.quiet)
				post(w.now + between(500 * MS, 6 * SEC), EVENT_SAVE, 0, 0, 0, NULL);
			break;
		case EVENT_ARRIVE:
			redis_arrive(event->p);
			break;
		case EVENT_STOP_ZOMBIE:
			if ((w.node[event->node].life == event->a ||
				 (event->a == 0 && w.node[event->node].copy != COPY_NONE)) &&
				event->node != w.judged)
				zombie_stop();
			break;
		case EVENT_START_SERVER:
			if (node->life == event->a && !node->up)
				node_start(node);
			break;
		default:
			pusher_event(event);
	}
}

/* Runs the world until this time, or until a violation. */
void
run_until(int64_t until)
{
	Event *kept = NULL;
	int nkept = 0;

	while (heaped > 0 && heap[0].at <= until && !w.violated)
	{
		Event event = pop();

		if (w.nested && (event.kind == EVENT_FAULT ||
						 ((event.kind >= EVENT_STOP_ZOMBIE && event.node == w.preempted))))
		{
			kept = realloc(kept, sizeof(Event) * (nkept + 1));
			kept[nkept++] = event;
			continue;
		}
		if (w.now < event.at)
			w.now = event.at;
		happen(&event);
	}
	/* a preemption may have gone beyond it */
	if (!w.violated && w.now < until)
		w.now = until;
	for (int i = 0; i < nkept; i++)
	{
		kept[i].at = w.now;
		push(&kept[i]);
	}
	free(kept);
}

/* No lock is needed here, but the pusher may be preempted where it takes one: it holds no other lock. */
void
ss_ledger_lock(int partition)
{
	int running = w.running;

	(void) partition;
	if (w.running < 0 || w.nested || w.violated || calm() || !chance(w.config.preempt))
		return;
	totals.happened[HAPPENED_PREEMPTION]++;
	w.nested = true;
	w.preempted = running;
	run_until(w.now + spread(w.config.preempt_least, w.config.preempt_most));
	w.running = running;
	w.nested = false;
}

void
ss_ledger_unlock(int partition)
{
	(void) partition;
}

/* Are faults excluded at the moment? */
bool
calm(void)
{
	return w.quiet || w.holding;
}

void
note_fault(Fault kind)
{
	totals.happened[kind]++;
	w.last_fault = w.now;
}

void
say(const char *format, ...)
{
	va_list arguments;

	if (!verbose)
		return;
	printf("%12.6f  ", (double) (w.now % (100000 * SEC)) / 1e6);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}
