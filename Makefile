# session_store: PGXS build. `make`, `make install`, `make installcheck` work as
# for any extension; PG_CONFIG picks the server. `./dev` wraps all of this.

EXTENSION = session_store
MODULE_big = session_store

# The folder of the sources. It is another one than that of the build where VPATH says so (what
# pg_buildext does) or another folder's Makefile is used (make -f): objects then go below the
# current folder.
ifndef VPATH
ifneq (,$(filter-out ./,$(dir $(firstword $(MAKEFILE_LIST)))))
VPATH := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))
endif
endif
SS_SOURCE := $(or $(VPATH),.)
ss_wildcard = $(sort $(patsubst $(SS_SOURCE)/%,%,$(wildcard $(addprefix $(SS_SOURCE)/,$(1)))))

# The version stands in the control file and nowhere else.
SS_VERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(SS_SOURCE)/session_store.control)

OBJS = $(patsubst %.c,%.o,$(call ss_wildcard,src/*.c src/*/*.c))
SS_BITCODE = $(OBJS:.o=.bc)
SS_HEADERS = $(call ss_wildcard,src/*.h src/*/*.h)
ifeq (,$(OBJS))
$(error no sources in $(SS_SOURCE)/src)
endif

DATA_built = $(EXTENSION)--$(SS_VERSION).sql

REGRESS = $(patsubst test/sql/%.sql,%,$(call ss_wildcard,test/sql/*.sql))
REGRESS_OPTS = --inputdir=$(SS_SOURCE)/test --load-extension=session_store
ISOLATION = $(patsubst test/specs/%.spec,%,$(call ss_wildcard,test/specs/*.spec))
ISOLATION_OPTS = --inputdir=$(SS_SOURCE)/test --load-extension=session_store

EXTRA_CLEAN = $(EXTENSION)--*.sql tmp_check output_iso results test/unit/run-* \
	$(addsuffix .d,$(OBJS) $(SS_BITCODE))

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
PG_CPPFLAGS = -I$(SS_SOURCE)/src -DSESSION_STORE_VERSION='"$(SS_VERSION)"' $(if $(HIREDIS_TLS),-DSS_WITH_TLS)

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

# Dependencies are generated below. PGXS does so, too, for a server that was configured with
# --enable-depend, but confuses sources of the same name in different folders.
override autodepend :=

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# The compiler writes the headers that an object depends on into OBJECT.d. An object without such a
# file depends on all headers.
$(OBJS): COMPILE.c += -MMD -MP -MF $@.d
$(SS_BITCODE): COMPILE.c.bc += -MMD -MP -MF $@.d
SS_DEPENDS := $(wildcard $(addsuffix .d,$(OBJS) $(SS_BITCODE)))
include $(SS_DEPENDS)
$(filter-out $(SS_DEPENDS:.d=),$(OBJS) $(SS_BITCODE)): $(SS_HEADERS)
$(OBJS) $(SS_BITCODE): $(SS_SOURCE)/Makefile session_store.control

# A build elsewhere needs the folders of the objects. They cannot be targets: make would find
# those of the sources by VPATH.
ifdef VPATH
$(shell mkdir -p $(dir $(OBJS)) test/unit)
endif

$(EXTENSION)--$(SS_VERSION).sql: sql/session_store.sql session_store.control
	cp $< $@

# Pure code (no Postgres in it) is tested without a server.
UNIT_CFLAGS = -std=c99 -g -O1 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all -I$(SS_SOURCE)/src

unit-check:
	$(CC) $(UNIT_CFLAGS) -o test/unit/run-expiry $(addprefix $(SS_SOURCE)/,test/unit/expiry.c src/base/expiry.c)
	./test/unit/run-expiry
	$(CC) $(UNIT_CFLAGS) -o test/unit/run-liveness $(addprefix $(SS_SOURCE)/,test/unit/liveness.c src/base/expiry.c)
	./test/unit/run-liveness
	$(CC) $(UNIT_CFLAGS) -o test/unit/run-url $(addprefix $(SS_SOURCE)/,test/unit/url.c src/base/url.c)
	./test/unit/run-url
	$(CC) $(UNIT_CFLAGS) -o test/unit/run-json_escape $(addprefix $(SS_SOURCE)/,test/unit/json_escape.c src/base/json_escape.c)
	./test/unit/run-json_escape

# Points in time of different clocks are not mixed: src/base/clock.h.
CLOCK_CHECK = $(CC) -fsyntax-only -Werror -DSS_CHECK_CLOCKS -I$(SS_SOURCE)/src

clock-check:
	$(CLOCK_CHECK) $(CFLAGS) $(CPPFLAGS) $(addprefix $(SS_SOURCE)/,$(OBJS:.o=.c))
	$(CLOCK_CHECK) $(SS_SOURCE)/test/unit/clocks.c
	for n in 1 2 3 4 5 6 7; do \
		if $(CLOCK_CHECK) -DMISTAKE=$$n $(SS_SOURCE)/test/unit/clocks.c 2>/dev/null; then \
			echo "mistake $$n of test/unit/clocks.c compiles"; exit 1; fi; done

print-version:
	@echo $(SS_VERSION)

.PHONY: unit-check clock-check print-version
