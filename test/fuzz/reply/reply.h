/*
 * reply.h
 *		Between the input (reply.c) and what stands in for the server (server.c).
 */
#ifndef REPLY_H
#define REPLY_H

typedef enum Answer
{
	ANSWER_NONE,
	ANSWER_BYTES,
	ANSWER_CLOSE
} Answer;

extern int64 virtual_now;

extern Answer next_answer(int socket);
extern void hang_up(void);
extern void free_all(void);

#endif
