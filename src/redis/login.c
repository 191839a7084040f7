/*
 * login.c
 *		Where Redis is and how to log in, from the settings.
 *
 * The password comes from a file that only its owner can read or, with a warning in health, from the
 * URL.  It is in no message, and nowhere in shared memory except in the settings themselves.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"
#include "utils/timestamp.h"

#include "redis/login.h"
#include "settings.h"

static char *chosen_url = NULL;
static char *chosen_file = NULL;
static int chosen_db;

/* Fills in all but the password. */
static void
read_settings(SsWireLogin *login)
{
	memset(login, 0, sizeof(*login));
	if (ss_url_parse(ss_redis_url, &login->url) != NULL)
		memset(&login->url, 0, sizeof(login->url)); /* an invalid value is refused when it is set */
	login->database = ss_redis_db >= 0           ? ss_redis_db
					  : login->url.database >= 0 ? login->url.database
												 : 0;
}

/* At the start of a worker: fills in *login, and remembers the settings for ss_login_changed. */
void
ss_login_choose(SsWireLogin *login)
{
	read_settings(login);
	chosen_url = strdup(ss_redis_url);
	chosen_file = strdup(ss_redis_password_file);
	chosen_db = login->database;
}

/* Do the settings differ from those at the start of the worker? */
bool
ss_login_changed(const SsWireLogin *login)
{
	SsWireLogin now;

	read_settings(&now);
	return chosen_url == NULL || chosen_file == NULL || strcmp(chosen_url, ss_redis_url) != 0 ||
		   strcmp(chosen_file, ss_redis_password_file) != 0 || chosen_db != now.database;
}

/* Reads the first line of the password file. */
static bool
read_file(SsWireLogin *login, char *problem, size_t size)
{
	struct stat st;
	int fd = OpenTransientFile(ss_redis_password_file, O_RDONLY | O_NONBLOCK | PG_BINARY);
	ssize_t n = -1;

	if (fd < 0)
	{
		snprintf(problem, size, "session_store.redis_password_file cannot be read: %s",
				 strerror(errno));
		return false;
	}
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & (S_IRWXG | S_IRWXO)) == 0)
		n = read(fd, login->password, sizeof(login->password) - 1);
	else
		snprintf(problem, size,
				 "session_store.redis_password_file must be a file that only its owner may read "
				 "(mode 0600)");
	CloseTransientFile(fd);
	if (n < 0)
	{
		if (problem[0] == '\0')
			strlcpy(problem, "session_store.redis_password_file cannot be read", size);
		return false;
	}
	login->password[n] = '\0';
	login->password[strcspn(login->password, "\r\n")] = '\0';
	return true;
}

/*
 * Reads the password before each connection, because it may have changed.  False with a
 * message in `problem`.
 */
bool
ss_login_read(SsWireLogin *login, char *problem, size_t size)
{
	problem[0] = '\0';
	explicit_bzero(login->password, sizeof(login->password));
	if (ss_redis_password_file[0] != '\0')
		return read_file(login, problem, size);
	strlcpy(login->password, login->url.password, sizeof(login->password));
	return true;
}
