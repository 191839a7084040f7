/*
 * preload.c
 *		For LD_PRELOAD: malloc, calloc and realloc that fail when module.c says so.
 *
 * What is no larger than the block that was freed just before does not fail: there is room for it.
 * hiredis 0.14 relies on that when it replaces a large buffer by a small one.
 *
 * glibc only: the real functions are called by the names that it exports for this.
 */
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void __libc_free(void *block);

/* Set by module.c; NULL: nothing fails. */
bool (*ss_fuzz_malloc_fails)(void) = NULL;

static size_t freed = 0; /* the size of the block that was freed just before */

static bool
fails(size_t size)
{
	bool room = size <= freed;

	freed = 0;
	if (ss_fuzz_malloc_fails == NULL || room || !ss_fuzz_malloc_fails())
		return false;
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	return fails(size) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return fails(n * size) ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *old, size_t size)
{
	return fails(size) ? NULL : __libc_realloc(old, size);
}

void
free(void *block)
{
	int error = errno;

	if (ss_fuzz_malloc_fails != NULL && block != NULL)
		freed = malloc_usable_size(block);
	__libc_free(block);
	errno = error;
}
