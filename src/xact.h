/*
 * xact.h
 *		What happens at the end of a transaction and of a subtransaction, and in which order.
 */
#ifndef SS_XACT_H
#define SS_XACT_H

extern void ss_xact_init(void);

#endif
