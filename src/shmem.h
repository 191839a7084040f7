/*
 * shmem.h
 *		Requests and initializes the shared memory of all modules.
 */
#ifndef SS_SHMEM_H
#define SS_SHMEM_H

extern void ss_shmem_install_hooks(void);

#endif
