/*
 * export_cursor.h
 *		The position of an item in an export.
 */
#ifndef SS_EXPORT_CURSOR_H
#define SS_EXPORT_CURSOR_H

#include "datatype/timestamp.h"

/* The stages of an export, in their order.  Summary, messages and members follow their session. */
typedef enum SsExportStage
{
	SS_EXPORT_SESSION = 's',
	SS_EXPORT_SUMMARY = 'y',
	SS_EXPORT_MESSAGE = 'm',
	SS_EXPORT_MEMBER = 'b',
	SS_EXPORT_UNACCEPTED = 'u', /* memberships */
	SS_EXPORT_ACCEPTED = 'w',
	SS_EXPORT_EVENT = 'v'
} SsExportStage;

/* A position.  What a stage does not use is 0, or empty. */
typedef struct SsExportPosition
{
	SsExportStage stage;
	TimestampTz created_at; /* of the session, or of the event */
	int64 seq;              /* of the message */
	Datum id;               /* text, of the session */
	Datum rest;             /* text: the member, history_id of the membership, or event_id */
} SsExportPosition;

extern Datum ss_export_cursor_make(const SsExportPosition *position);
extern void ss_export_cursor_read(Datum cursor, SsExportPosition *position);

#endif
