/*
 * compat.h
 *		The only place that asks which server this is built for.
 *
 * PostgreSQL 15 to 18.
 */
#ifndef SS_COMPAT_H
#define SS_COMPAT_H

#include "access/tableam.h"
#include "storage/proc.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "session_store is built for PostgreSQL 15 to 18"
#endif

/* Our index in ProcGlobal->allProcs, to be woken through shared memory. */
#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#define SsMyProcNumber() MyProcNumber
#else
#define SsMyProcNumber() (MyProc->pgprocno)
#endif

/* The number of the file that a table is stored in. */
#if PG_VERSION_NUM >= 160000
#define SsRelationStorage(rel) ((rel)->rd_locator.relNumber)
#else
#define SsRelationStorage(rel) ((rel)->rd_node.relNode)
#endif

/* The varlena macros moved out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* A lexer over a text, that leaves escapes as they are. */
#if PG_VERSION_NUM >= 170000
#define SsJsonLexer(text) \
	makeJsonLexContextCstringLen(NULL, text, strlen(text), GetDatabaseEncoding(), false)
#else
#define SsJsonLexer(text)                                                                       \
	makeJsonLexContextCstringLen(unconstify(char *, text), strlen(text), GetDatabaseEncoding(), \
								 false)
#endif

/* An index scan can be instrumented from 18 on. */
#if PG_VERSION_NUM >= 180000
#define SsIndexBeginScan(rel, index, snapshot, n) index_beginscan(rel, index, snapshot, NULL, n, 0)
#else
#define SsIndexBeginScan(rel, index, snapshot, n) index_beginscan(rel, index, snapshot, n, 0)
#endif

/* From 16 on an update may need entries in summarizing indexes alone. */
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

/* Columns that are computed when they are read came with 18. */
#if PG_VERSION_NUM >= 180000
#define SsHasGeneratedVirtual(constr) ((constr)->has_generated_virtual)
#else
#define SsHasGeneratedVirtual(constr) false
#endif

/* From 18 on a column may be NOT NULL for what is still to be written alone (NOT VALID). */
#if PG_VERSION_NUM >= 180000
#define SsHasNoNulls(desc, i) (TupleDescCompactAttr(desc, i)->attnullability == ATTNULLABLE_VALID)
#else
#define SsHasNoNulls(desc, i) (TupleDescAttr(desc, i)->attnotnull)
#endif

/* What hiredis counts elements with, where that is included. */
#if defined(HIREDIS_MAJOR) && HIREDIS_MAJOR >= 1
typedef size_t SsHiredisCount;
#else
typedef int SsHiredisCount;
#endif

/* A setting that a worker resets for itself, where there is one. */
#if PG_VERSION_NUM >= 170000
#define SS_TRANSACTION_TIMEOUT {"transaction_timeout", "0"},
#else
#define SS_TRANSACTION_TIMEOUT
#endif

/* PostgreSQL 18 has pg_noreturn instead, which stands before the declaration. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn
#define ss_noreturn pg_attribute_noreturn()
#else
#define ss_noreturn
#endif

/* Up to 15 the server declares walkers without arguments, which means none from C23 on. */
#define SsWalker(function) ((void *) (function))

/* JSON_VALUE and its like, whose results may be checked by a domain, came with 17. */
#if PG_VERSION_NUM >= 170000
#define SsIsJsonQuery(node) IsA(node, JsonExpr)
#else
#define SsIsJsonQuery(node) false
#endif

#endif
