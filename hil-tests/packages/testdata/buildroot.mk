# A stand-in for Buildroot that evaluates a package as its golang infrastructure does (its manual, "Infrastructure for Go packages"), and prints what it
# would do. TestBuildroot includes it with the package's file.
qstrip = $(strip $(subst ",,$(1)))
INSTALL = install
HOST_GO_TARGET_ENV = GOFLAGS=-mod=vendor CGO_ENABLED=1 GOARCH=arm GOARM=7
GO_BIN = go
D = /build
TARGET_DIR = /target
KCONFIG_ENABLE_OPT = enable $(1)
pkg = SKERRYD
SKERRYD_PKGDIR = $(TREE)/package/skerryd
golang-package =

include $(TREE)/external.mk

show:
	@echo '$(HOST_GO_TARGET_ENV) $($(pkg)_GO_ENV) $(GO_BIN) build -ldflags "$($(pkg)_LDFLAGS)" -tags "$($(pkg)_TAGS)" $($(pkg)_GOMOD)/$($(pkg)_BUILD_TARGETS)'
install:
	$(SKERRYD_INSTALL_FILES)
	$(SKERRYD_INSTALL_INIT_SYSTEMD)
	$(SKERRYD_INSTALL_INIT_SYSV)
