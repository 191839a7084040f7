/*
 * compat.h
 *		Differences between the versions of PostgreSQL (15 to 18), and of hiredis.
 *
 * No other file compares PG_VERSION_NUM.
 */
#ifndef SS_COMPAT_H
#define SS_COMPAT_H

#include "access/tableam.h"
#include "storage/proc.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "session_store is built for PostgreSQL 15 to 18"
#endif

/* The index of this process in ProcGlobal->allProcs. */
#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#define SsMyProcNumber() MyProcNumber
#else
#define SsMyProcNumber() (MyProc->pgprocno)
#endif

/* The relfilenumber of a table. */
#if PG_VERSION_NUM >= 160000
#define SsRelationStorage(rel) ((rel)->rd_locator.relNumber)
#else
#define SsRelationStorage(rel) ((rel)->rd_node.relNode)
#endif

/* Since 16 the varlena macros are not in postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* A JSON lexer over a string that does not de-escape. */
#if PG_VERSION_NUM >= 170000
#define SsJsonLexer(text) \
	makeJsonLexContextCstringLen(NULL, text, strlen(text), GetDatabaseEncoding(), false)
#else
#define SsJsonLexer(text)                                                                       \
	makeJsonLexContextCstringLen(unconstify(char *, text), strlen(text), GetDatabaseEncoding(), \
								 false)
#endif

/* Since 18 an index scan can be instrumented. */
#if PG_VERSION_NUM >= 180000
#define SsIndexBeginScan(rel, index, snapshot, n) index_beginscan(rel, index, snapshot, NULL, n, 0)
#else
#define SsIndexBeginScan(rel, index, snapshot, n) index_beginscan(rel, index, snapshot, n, 0)
#endif

/* Since 16 an update may need new entries in summarizing indexes only. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes SsUpdateIndexes;
#define SS_NO_INDEXES TU_None
#define SsInsertIndexTuples(info, slot, estate, which) \
	ExecInsertIndexTuples(info, slot, estate, true, false, NULL, NIL, (which) == TU_Summarizing)
#else
typedef bool SsUpdateIndexes;
#define SS_NO_INDEXES false
#define SsInsertIndexTuples(info, slot, estate, which) \
	ExecInsertIndexTuples(info, slot, estate, true, false, NULL, NIL)
#endif

/* Since 18 there are virtual generated columns. */
#if PG_VERSION_NUM >= 180000
#define SsHasGeneratedVirtual(constr) ((constr)->has_generated_virtual)
#else
#define SsHasGeneratedVirtual(constr) false
#endif

/* Since 18 a NOT NULL constraint may be NOT VALID. */
#if PG_VERSION_NUM >= 180000
#define SsHasNoNulls(desc, i) (TupleDescCompactAttr(desc, i)->attnullability == ATTNULLABLE_VALID)
#else
#define SsHasNoNulls(desc, i) (TupleDescAttr(desc, i)->attnotnull)
#endif

/* The type of element counts in hiredis, if its header is included. */
#if defined(HIREDIS_MAJOR) && HIREDIS_MAJOR >= 1
typedef size_t SsHiredisCount;
#else
typedef int SsHiredisCount;
#endif

/*
 * A function of libpq/libpq.h, which cannot be included: some servers are built with Kerberos, whose
 * headers it then needs.
 */
extern bool pq_check_connection(void);

/* Since 17 an extension can name what its backends wait for.  Called once in a backend. */
#if PG_VERSION_NUM >= 170000
#define SsWaitEvent(name) WaitEventExtensionNew(name)
#else
#define SsWaitEvent(name) PG_WAIT_EXTENSION
#endif

/* An entry of a worker's own settings, if the server has that parameter. */
#if PG_VERSION_NUM >= 170000
#define SS_TRANSACTION_TIMEOUT {"transaction_timeout", "0"},
#else
#define SS_TRANSACTION_TIMEOUT
#endif

/* Since 18 pg_noreturn, before the declaration, replaces pg_attribute_noreturn(), after it. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn
#define ss_noreturn pg_attribute_noreturn()
#else
#define ss_noreturn
#endif

/*
 * Up to 15 the server declares walker functions with empty parentheses, which in C23 means no
 * arguments.
 */
#define SsWalker(function) ((void *) (function))

/* Since 17 there are JSON_VALUE and similar expressions, whose result may be of a domain. */
#if PG_VERSION_NUM >= 170000
#define SsIsJsonQuery(node) IsA(node, JsonExpr)
#else
#define SsIsJsonQuery(node) false
#endif

#endif
