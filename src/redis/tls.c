/*
 * tls.c
 *		TLS for redis.c, where hiredis_ssl was available at build time.
 *
 * The certificate must be one that the system trusts (SSL_CERT_FILE and SSL_CERT_DIR of the
 * server's environment apply) and must be issued for the host of the URL.  hiredis checks neither
 * by itself, so the SSL object is created here.
 */
#include "postgres.h"

#include "redis/tls.h"

#ifdef SS_WITH_TLS

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "utils/memutils.h"

const bool ss_tls_built = true;

static SSL_CTX *trust = NULL;

/* Sets the message from OpenSSL's last error. */
static bool
tls_error(const char *what, char *error, size_t size)
{
	unsigned long code = ERR_get_error();

	snprintf(error, size, "TLS: %s: %s", what,
			 code == 0 ? "unknown error" : ERR_reason_error_string(code));
	return false;
}

/*
 * Begins TLS on a connection.  The handshake takes place along with the first command, which
 * reports its errors.
 */
bool
ss_tls_start(struct redisContext *context, const char *host, void **tls, char *error, size_t size)
{
	unsigned char address[sizeof(struct in6_addr)];
	bool is_address = inet_pton(AF_INET, host, address) == 1 ||
					  inet_pton(AF_INET6, host, address) == 1;
	SSL *ssl;

	ERR_clear_error();
	if (trust == NULL)
	{
		SSL_CTX *fresh = SSL_CTX_new(TLS_client_method());

		if (fresh == NULL || SSL_CTX_set_default_verify_paths(fresh) != 1 ||
			SSL_CTX_set_min_proto_version(fresh, TLS1_2_VERSION) != 1)
			return tls_error("no context", error, size);
		SSL_CTX_set_verify(fresh, SSL_VERIFY_PEER, NULL);
		trust = fresh;
	}
	ssl = SSL_new(trust);
	if (ssl == NULL)
		return tls_error("no connection", error, size);
	if ((is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host)
					: SSL_set1_host(ssl, host)) != 1 ||
		(!is_address && SSL_set_tlsext_host_name(ssl, host) != 1))
	{
		SSL_free(ssl);
		return tls_error("bad host name", error, size);
	}
	/* from here on the hiredis context owns it */
	if (redisInitiateSSL(context, ssl) != REDIS_OK)
	{
		snprintf(error, size, "TLS: %s", context->errstr);
		return false;
	}
	*tls = ssl;
	return true;
}

/* Has OpenSSL read more than it has returned?  Then the socket may stay silent. */
bool
ss_tls_pending(void *tls)
{
	return tls != NULL && SSL_pending((SSL *) tls) > 0;
}

/* Does a write have to wait for input, as in the middle of a handshake? */
bool
ss_tls_wants_to_read(void *tls)
{
	return tls != NULL && SSL_want_read((SSL *) tls);
}

/* Why a connection failed, if TLS knows it; hiredis does not say.  NULL: not because of TLS. */
const char *
ss_tls_problem(void *tls)
{
	unsigned long code;
	long verdict;

	if (tls == NULL)
		return NULL;
	verdict = SSL_get_verify_result((SSL *) tls);
	if (verdict != X509_V_OK)
		return X509_verify_cert_error_string(verdict);
	code = ERR_peek_last_error();
	return code == 0 ? NULL : ERR_reason_error_string(code);
}

/* Called after redisFree. */
void
ss_tls_end(void *tls)
{
	/* redisFree has freed the SSL object */
}

#else

const bool ss_tls_built = false;

bool
ss_tls_start(struct redisContext *context, const char *host, void **tls, char *error, size_t size)
{
	strlcpy(error, "TLS is not in this build", size);
	return false;
}

bool
ss_tls_pending(void *tls)
{
	return false;
}

bool
ss_tls_wants_to_read(void *tls)
{
	return false;
}

const char *
ss_tls_problem(void *tls)
{
	return NULL;
}

void
ss_tls_end(void *tls)
{
}

#endif
