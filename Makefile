# session_store: PGXS build. `make`, `make install`, `make installcheck` work as
# for any extension; PG_CONFIG picks the server. `./dev` wraps all of this.

EXTENSION = session_store
MODULE_big = session_store

# The version stands in the control file and nowhere else.
SS_VERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" session_store.control)

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
SS_HEADERS = $(wildcard src/*.h src/*/*.h)

DATA_built = $(EXTENSION)--$(SS_VERSION).sql

REGRESS = $(sort $(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --load-extension=session_store
ISOLATION = $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --load-extension=session_store

EXTRA_CLEAN = $(EXTENSION)--*.sql tmp_check output_iso results test/unit/run-*

# hiredis: static with HIREDIS_STATIC=1 (the module then needs libc alone); TLS where
# hiredis_ssl is there.
HIREDIS_TLS := $(shell $(CC) -E -include hiredis/hiredis_ssl.h -xc /dev/null >/dev/null 2>&1 && echo 1)
ifdef HIREDIS_STATIC
SHLIB_LINK += -Wl,--exclude-libs,ALL -Wl,-Bstatic $(if $(HIREDIS_TLS),-lhiredis_ssl) -lhiredis -Wl,-Bdynamic
else
SHLIB_LINK += $(if $(HIREDIS_TLS),-lhiredis_ssl) -lhiredis
endif
SHLIB_LINK += $(if $(HIREDIS_TLS),-lssl -lcrypto)

PG_CONFIG ?= pg_config
PG_CPPFLAGS = -Isrc -DSESSION_STORE_VERSION='"$(SS_VERSION)"' $(if $(HIREDIS_TLS),-DSS_WITH_TLS)

# WERROR=1 makes warnings errors: CI builds so, with gcc and with clang. A
# user's build does not, for a newer compiler must not break an install.
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
# clang does not know all that the server was built with
ifneq (,$(findstring clang,$(CC)))
PG_CFLAGS += -Wno-ignored-optimization-argument -Wno-unknown-warning-option -Wno-ignored-attributes
endif
# Servers load modules into one name space: ours exports what the server looks up, no more.
PG_CFLAGS += -fvisibility=hidden
ifdef WERROR
PG_CFLAGS += -Werror
endif

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(SS_HEADERS) session_store.control
$(patsubst %.o,%.bc,$(OBJS)): $(SS_HEADERS) session_store.control

$(EXTENSION)--$(SS_VERSION).sql: sql/session_store.sql session_store.control
	cp $< $@

# Pure code (no Postgres in it) is tested without a server.
UNIT_CFLAGS = -std=c99 -g -O1 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all -Isrc

unit-check:
	$(CC) $(UNIT_CFLAGS) -o test/unit/run-expiry test/unit/expiry.c src/rows/expiry.c
	./test/unit/run-expiry
	$(CC) $(UNIT_CFLAGS) -o test/unit/run-url test/unit/url.c src/cache/url.c
	./test/unit/run-url

print-version:
	@echo $(SS_VERSION)

.PHONY: unit-check print-version
