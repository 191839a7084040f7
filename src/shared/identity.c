/*
 * identity.c
 *		Identifies the data directory, and tells whether it was that of a standby.
 *
 * A data directory is identified by the inode and the birth time of global/pg_control.  The server
 * writes that file in place, and so do crash recovery, pg_rewind and pg_resetwal; every copy (cp,
 * rsync, pg_basebackup) has another inode.  Device numbers may change with a reboot, so they are
 * not used.  A copy of the block device keeps both; see standing.c for what happens then.
 *
 * Whether a server was promoted or restored cannot be determined later, because the end of
 * recovery removes the signal file.  So at its start the postmaster records in the file
 * session_store.standby of the data directory that it found standby.signal.  The file contains the
 * identity of the directory, so that a copy of the file has no meaning elsewhere.  recovery.signal
 * alone (point-in-time recovery) removes it.  It is written and removed by the postmaster, before
 * any other process exists, and read by pushers.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "shared/identity.h"

#define CONTROL_FILE "global/pg_control"
#define STANDBY_FILE "session_store.standby"
#define STANDBY_FILE_NEW STANDBY_FILE ".tmp"

/* Inode and birth time; the latter is 0 where the system does not provide it. */
static void
directory_identity(char *out, size_t size)
{
	unsigned long long inode = 0;
	unsigned long long born = 0;
#if defined(__linux__) && defined(STATX_BTIME)
	struct statx st;

	if (statx(AT_FDCWD, CONTROL_FILE, 0, STATX_INO | STATX_BTIME, &st) == 0)
	{
		inode = st.stx_ino;
		if (st.stx_mask & STATX_BTIME)
			born = st.stx_btime.tv_sec * UINT64CONST(1000000000) + st.stx_btime.tv_nsec;
	}
#else
	struct stat st;

	if (stat(CONTROL_FILE, &st) == 0)
	{
		inode = st.st_ino;
#ifdef __APPLE__
		born = st.st_birthtimespec.tv_sec * UINT64CONST(1000000000) + st.st_birthtimespec.tv_nsec;
#elif defined(__FreeBSD__)
		born = st.st_birthtim.tv_sec * UINT64CONST(1000000000) + st.st_birthtim.tv_nsec;
#endif
	}
#endif
	snprintf(out, size, "%llu/%llu", inode, born);
}

/*
 * Records durably that this data directory is that of a standby.  A failure is logged only, so
 * that the server starts.
 */
static void
write_standby_file(void)
{
	char identity[SS_DIRECTORY_LEN];
	int fd;
	bool written;

	directory_identity(identity, sizeof(identity));
	fd = OpenTransientFile(STANDBY_FILE_NEW, O_CREAT | O_WRONLY | O_TRUNC | PG_BINARY);
	written = fd >= 0 && write(fd, identity, strlen(identity)) == (ssize_t) strlen(identity) &&
			  pg_fsync(fd) == 0;
	if (fd >= 0 && CloseTransientFile(fd) != 0)
		written = false;
	if (!written)
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("session_store: could not write file \"%s\": %m", STANDBY_FILE_NEW),
					  errdetail("When this server is promoted, its cache will wait for "
								"session_cache_takeover().")));
	else
		(void) durable_rename(STANDBY_FILE_NEW, STANDBY_FILE, LOG);
}

/* Called in the postmaster: records whether this server starts as a standby. */
void
ss_identity_at_start(void)
{
	struct stat st;

	if (stat(STANDBY_SIGNAL_FILE, &st) == 0)
	{
		if (!ss_identity_was_standby())
			write_standby_file();
	}
	else if (stat(RECOVERY_SIGNAL_FILE, &st) == 0 && stat(STANDBY_FILE, &st) == 0)
		(void) durable_unlink(STANDBY_FILE, LOG);
}

/* Was this data directory that of a standby after it was last restored? */
bool
ss_identity_was_standby(void)
{
	char identity[SS_DIRECTORY_LEN];
	char stored[SS_DIRECTORY_LEN];
	ssize_t n;
	int fd = OpenTransientFile(STANDBY_FILE, O_RDONLY | PG_BINARY);

	if (fd < 0)
		return false;
	n = read(fd, stored, sizeof(stored) - 1);
	CloseTransientFile(fd);
	stored[Max(n, 0)] = '\0';
	directory_identity(identity, sizeof(identity));
	return strcmp(stored, identity) == 0;
}

/* Fills in who we are, in a worker connected to a database; not where Redis is. */
void
ss_identity_read(SsClaim *me)
{
	memset(me, 0, sizeof(*me));
	me->system = GetSystemIdentifier();
	me->database = MyDatabaseId;
	me->timeline = GetWALInsertionTimeLine();
	directory_identity(me->directory, sizeof(me->directory));
}
