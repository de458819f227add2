# libappxmpp: building and installing it. Included by the Makefile at the top.
PREFIX  ?= /usr/local
DESTDIR ?=
# dev for a test of the installation alone.
CAPI_PROFILE ?= release
CAPI_BUILT = $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(CAPI_PROFILE)),debug,$(CAPI_PROFILE))

# Who leaves something out wants it small.
CAPI_SMALL = $(if $(findstring --no-default-features,$(CAPI_FEATURES)),CARGO_PROFILE_RELEASE_OPT_LEVEL=s)

.PHONY: install uninstall
install: rust ## install libappxmpp (PREFIX=/usr/local DESTDIR=; CAPI_FEATURES='--no-default-features' for a smaller one)
	$(CAPI_SMALL) $(CARGO) build --profile $(CAPI_PROFILE) -p appxmpp-capi $(CAPI_FEATURES)
	PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' BUILT='$(CAPI_BUILT)' capi/install.sh

uninstall: ## remove what `make install` with the same PREFIX and DESTDIR put there
	PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' capi/install.sh --uninstall
