/*
 * module.c
 *		A module for tests: the n-th allocation of a backend or a worker fails.
 *
 * It must be in shared_preload_libraries, and for malloc preload.c in LD_PRELOAD.  The methods of the server's
 * memory contexts are replaced in the postmaster, so that all its children inherit them; an allocation
 * that shall fail returns NULL, and the server raises 53200 as it would without memory.
 *
 * In a backend, allocations count only while a function of session_store is on the stack: what the
 * server does for itself is not our matter.  In a worker of session_store all count.  Nothing fails in a
 * critical section, nor in the context that the server reserves for errors.
 *
 *	fuzz_fail(kind, n)			from here on in this backend; kind is palloc or malloc.  With an n of 0
 *								or less, the first allocation fails whose call site has not failed
 *								twice with this n
 *	SET fuzz_fail.times			how many fail, from the n-th on; 1 if not set
 *	SET fuzz_fail.armed = off	end it
 *	fuzz_fail_end()				how many were counted, negative if the n-th did not come
 *	fuzz_fail_worker(function, kind, n)	the same for a worker.  An n of 0 is for those that run already,
 *								because the next start of one that cannot start waits a minute; what
 *								survives goes on with the next call site, until there is another order
 *	fuzz_fail_worker_state()	how many allocations failed since
 *
 * A call site is what backtrace() says, from the allocation to the third function of session_store that
 * is above it.  Its first and its second allocation of an attempt are told apart, and fail once each.
 *
 * Shared memory: `order` is written by one test at a time, and read by workers when its serial has
 * changed.  `sites` is written by the backend of the test or by a worker, of which one at a time has an
 * order; a worker that ends and the next one may overwrite each other's, which are then tried again.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/memnodes.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 170000
#include "utils/memutils_internal.h"
#endif

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

typedef struct Order
{
	pg_atomic_uint64 serial;
	pg_atomic_uint64 counted;
	pg_atomic_uint32 fired;
	char function[64];
	bool of_malloc;
	int64 n;
} Order;

/* Call sites, by hash; 0 is empty. */
#define SITES (1 << 16)
#define OUR_FRAMES 3

typedef struct Sites
{
	uint64 failed[SITES];
	int64 n;
} Sites;

static Order *order = NULL;
static Sites *sites = NULL;
static uint64 seen[SITES]; /* in this attempt */
static uint64 known = 0;   /* the order that this process has read */

static bool armed = false;
static bool of_malloc;
static bool has_malloc = false; /* preload.c is in LD_PRELOAD */
static bool is_worker;
static bool by_site;
static bool fired;
static int64 left;
static int64 counted;
static bool deciding = false;
static bool armed_setting = false;
static int times_setting = 1;
static int fired_times;
static uintptr_t text_from = 0, text_to = 0; /* where session_store is */

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;
static MemoryContextMethods real;

static int
find_library(struct dl_phdr_info *info, size_t size, void *arg)
{
	if (strstr(info->dlpi_name, "session_store.so") == NULL)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X))
		{
			text_from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
			text_to = text_from + info->dlpi_phdr[i].p_memsz;
		}
	return 1;
}

/* Is a function of session_store on the stack?  *site is the hash of the call site. */
static bool
is_ours(uint64 *site)
{
	void *frames[100];
	int n = backtrace(frames, lengthof(frames));
	int ours = 0;
	uint64 hash = 0;

	for (int i = 0; i < n && ours < OUR_FRAMES; i++)
	{
		hash = hash_bytes_extended((const unsigned char *) &frames[i], sizeof(frames[i]), hash);
		if ((uintptr_t) frames[i] >= text_from && (uintptr_t) frames[i] < text_to)
			ours++;
	}
	*site = hash | 1;
	return ours > 0;
}

/* Adds a site to a set; false if it was there already, or there is no room. */
static bool
add_site(uint64 *set, uint64 site)
{
	uint64 at = site % SITES;

	for (int i = 0; i < SITES; i++, at = (at + 1) % SITES)
	{
		if (set[at] == site)
			return false;
		if (set[at] == 0)
		{
			set[at] = site;
			return true;
		}
	}
	return false;
}

/* Has a call site not failed yet, be it the first or the second time in this attempt? */
static bool
is_new_site(uint64 site)
{
	if (!add_site(seen, site))
		site = hash_combine64(site, 2) | 1;
	if (!add_site(sites->failed, site))
		return false;
	sites->n++;
	return true;
}

/* Is there a new order for this worker? */
static void
read_order(void)
{
	uint64 serial = pg_atomic_read_u64(&order->serial);
	bool running;

	if (serial == known)
		return;
	running = known != 0;
	known = serial;
	armed = (order->n > 0 || running) &&
			strcmp(order->function, MyBgworkerEntry->bgw_function_name) == 0;
	is_worker = true;
	of_malloc = order->of_malloc;
	left = order->n;
	by_site = left == 0;
	if (by_site)
		memset(seen, 0, sizeof(seen));
	counted = 0;
	fired = false;
}

static bool
fails(bool is_malloc)
{
	bool now = false;
	uint64 site = 0;

	if (deciding || CritSectionCount > 0)
		return false;
	deciding = true;
	if (order != NULL && MyBgworkerEntry != NULL)
		read_order();
	if (armed && is_malloc == of_malloc && (is_ours(&site) || is_worker))
	{
		counted++;
		if (is_worker)
			pg_atomic_write_u64(&order->counted, counted);
		if (by_site ? is_new_site(hash_combine64(site, (uint64) left) | 1) : --left == 0)
		{
			now = fired = true;
			/* a worker stays armed: its next round reaches other sites */
			armed = (is_worker && by_site) || fired_times + 1 < times_setting;
			left = by_site ? left : 1;
			fired_times++;
			if (is_worker)
				(void) pg_atomic_fetch_add_u32(&order->fired, 1);
		}
	}
	deciding = false;
	return now;
}

static bool
malloc_fails(void)
{
	return fails(true);
}

/*
 * Without the owners of a new local lock the server crashes when the lock is asked for again after a
 * ROLLBACK TO: a defect of its own.
 */
static bool
is_lock_owners(MemoryContext context, Size size)
{
	return context == TopMemoryContext && size == 8 * sizeof(LOCALLOCKOWNER);
}

/*
 * After the commit of a transaction that called NOTIFY the server allocates lists of backends to signal
 * (SignalBackends), and PANICs if it cannot: likewise a defect of its own.
 */
static bool
is_signal_list(MemoryContext context, Size size)
{
	return context == TopTransactionContext && size == (Size) MaxBackends * sizeof(int32);
}

/*
 * When the reference to an entry of the statistics cannot be allocated, its place in the hash of
 * references stays without a value, and the next access crashes (pgstat_get_entry_ref): likewise.
 */
static bool
is_statistics_reference(MemoryContext context)
{
	return strncmp(context->name, "PgStat Shared Ref", strlen("PgStat Shared Ref")) == 0;
}

/* The server reserves it for the end of a transaction that has failed, as it does ErrorContext. */
static bool
is_reserved(MemoryContext context)
{
	return context == ErrorContext || strcmp(context->name, "TransactionAbortContext") == 0;
}

static bool
must_not_fail(MemoryContext context, Size size)
{
	return is_lock_owners(context, size) || is_signal_list(context, size) ||
		   is_statistics_reference(context);
}

static bool
alloc_fails(MemoryContext context, Size size)
{
	return !is_reserved(context) && !must_not_fail(context, size) && fails(false);
}

#if PG_VERSION_NUM >= 170000
static void *
failing_alloc(MemoryContext context, Size size, int flags)
{
	void *result;
	bool before = deciding;

	if (alloc_fails(context, size))
		return MemoryContextAllocationFailure(context, size, flags);
	deciding |= must_not_fail(context, size);
	result = real.alloc(context, size, flags);
	deciding = before;
	return result;
}

static void *
failing_realloc(void *pointer, Size size, int flags)
{
	MemoryContext context = GetMemoryChunkContext(pointer);

	if (alloc_fails(context, size))
		return MemoryContextAllocationFailure(context, size, flags);
	return real.realloc(pointer, size, flags);
}
#else
static void *
failing_alloc(MemoryContext context, Size size)
{
	void *result;
	bool before = deciding;

	if (alloc_fails(context, size))
		return NULL;
	deciding |= must_not_fail(context, size);
	result = real.alloc(context, size);
	deciding = before;
	return result;
}

#if PG_VERSION_NUM >= 160000
static void *
failing_realloc(void *pointer, Size size)
{
	return alloc_fails(GetMemoryChunkContext(pointer), size) ? NULL : real.realloc(pointer, size);
}
#else
static void *
failing_realloc(MemoryContext context, void *pointer, Size size)
{
	return alloc_fails(context, size) ? NULL : real.realloc(context, pointer, size);
}
#endif
#endif

static void
replace_methods(void)
{
	MemoryContextMethods *methods = unconstify(MemoryContextMethods *, TopMemoryContext->methods);
	uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t from = (uintptr_t) methods & ~(page - 1);
	uintptr_t to = ((uintptr_t) methods + sizeof(*methods) + page - 1) & ~(page - 1);

	real = *methods;
	if (mprotect((void *) from, to - from, PROT_READ | PROT_WRITE) != 0)
		elog(FATAL, "cannot replace the methods of memory contexts: %m");
	methods->alloc = failing_alloc;
	methods->realloc = failing_realloc;
}

/* What crashes without memory says where: LD_PRELOAD and sanitizers leave no core to look at. */
static void
on_crash(int signo)
{
	void *frames[40];

	backtrace_symbols_fd(frames, backtrace(frames, lengthof(frames)), STDERR_FILENO);
	pqsignal(signo, SIG_DFL);
	raise(signo);
}

static void
request(void)
{
	if (previous_request != NULL)
		previous_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(Order)) + MAXALIGN(sizeof(Sites)));
}

static void
startup(void)
{
	Order *memory;
	bool found;

	if (previous_startup != NULL)
		previous_startup();
	memory = ShmemInitStruct("fuzz_fail", sizeof(Order), &found);
	memset(memory, 0, sizeof(Order));
	pg_atomic_init_u64(&memory->serial, 0);
	pg_atomic_init_u64(&memory->counted, 0);
	pg_atomic_init_u32(&memory->fired, 0);
	sites = ShmemInitStruct("fuzz_fail sites", sizeof(Sites), &found);
	memset(sites, 0, sizeof(Sites));
	order = memory;
}

/* SET fuzz_fail.armed runs no executor, and so cannot fail itself. */
static void
assign_armed(bool value, void *extra)
{
	if (MyBgworkerEntry == NULL)
		armed = false;
}

void
_PG_init(void)
{
	bool (**malloc_hook)(void);
	void *frame[1];

	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomBoolVariable("fuzz_fail.armed", "Setting it to anything ends fuzz_fail().", NULL,
							 &armed_setting, false, PGC_USERSET, 0, NULL, assign_armed, NULL);
	DefineCustomIntVariable("fuzz_fail.times", "How many allocations fail, one after the other.",
							NULL, &times_setting, 1, 1, 1000, PGC_USERSET, 0, NULL, NULL, NULL);
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
	/* the first one loads a library, and allocates */
	(void) backtrace(frame, 1);
	dl_iterate_phdr(find_library, NULL);
	if (text_from == 0)
		elog(FATAL, "session_store must be preloaded before fuzz_fail");
	replace_methods();
	/* a sanitizer has a handler of its own */
	if (dlsym(RTLD_DEFAULT, "__asan_init") == NULL)
	{
		pqsignal(SIGSEGV, on_crash);
		pqsignal(SIGABRT, on_crash);
	}
	malloc_hook = dlsym(RTLD_DEFAULT, "ss_fuzz_malloc_fails");
	has_malloc = malloc_hook != NULL;
	if (has_malloc)
		*malloc_hook = malloc_fails;
}

/* The first argument of fuzz_fail(), and the second of fuzz_fail_worker(). */
static bool
wants_malloc(text *argument)
{
	bool result = strcmp(text_to_cstring(argument), "malloc") == 0;

	if (result && !has_malloc)
		elog(ERROR, "preload.c is not in LD_PRELOAD");
	return result;
}

PG_FUNCTION_INFO_V1(fuzz_fail);
Datum
fuzz_fail(PG_FUNCTION_ARGS)
{
	of_malloc = wants_malloc(PG_GETARG_TEXT_PP(0));
	left = PG_GETARG_INT64(1);
	by_site = left <= 0;
	if (by_site)
		memset(seen, 0, sizeof(seen));
	counted = 0;
	fired = is_worker = false;
	fired_times = 0;
	armed = true;
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(fuzz_fail_end);
Datum
fuzz_fail_end(PG_FUNCTION_ARGS)
{
	armed = false;
	PG_RETURN_INT64(fired ? counted : -counted);
}

PG_FUNCTION_INFO_V1(fuzz_fail_worker);
Datum
fuzz_fail_worker(PG_FUNCTION_ARGS)
{
	strlcpy(order->function, text_to_cstring(PG_GETARG_TEXT_PP(0)), sizeof(order->function));
	order->of_malloc = wants_malloc(PG_GETARG_TEXT_PP(1));
	order->n = PG_GETARG_INT64(2);
	pg_atomic_write_u32(&order->fired, 0);
	pg_atomic_write_u64(&order->counted, 0);
	pg_memory_barrier();
	(void) pg_atomic_fetch_add_u64(&order->serial, 1);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(fuzz_fail_worker_state);
Datum
fuzz_fail_worker_state(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) pg_atomic_read_u32(&order->fired));
}
