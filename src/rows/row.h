/*
 * row.h
 *		The columns of conversation_sessions, by attribute number.
 *
 * Shared by the triggers that read such a row; the install script has the same order.
 */
#ifndef SS_ROW_H
#define SS_ROW_H

enum
{
	SS_ROW_CREATED_AT = 1,
	SS_ROW_CHECK_AT,
	SS_ROW_TTL,
	SS_ROW_NAMESPACE,
	SS_ROW_SESSION_ID,
	SS_ROW_OWNER_ID,
	SS_ROW_LAST_SEQ,
	SS_ROW_MESSAGE_COUNT,
	SS_ROW_VERSION,
	SS_ROW_UPDATED_AT,
	SS_ROW_EXPIRES_AT,
	SS_ROW_SESSION_DATA,
	SS_ROW_HISTORY_ID,
	SS_ROW_DEAD_UNTIL,
	SS_ROW_ATTRS = SS_ROW_DEAD_UNTIL
};

#endif
