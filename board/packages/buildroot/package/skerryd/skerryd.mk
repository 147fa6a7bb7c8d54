################################################################################
#
# skerryd
#
################################################################################

SKERRYD_VERSION = $(call qstrip,$(BR2_PACKAGE_SKERRYD_VERSION))
SKERRYD_SITE = https://github.com/skerry/skerry
SKERRYD_SITE_METHOD = git
SKERRYD_LICENSE = Apache-2.0
SKERRYD_LICENSE_FILES = LICENSE docs/security/dependencies.md
SKERRYD_GOMOD = github.com/skerry/skerry
SKERRYD_BUILD_TARGETS = firmware/cmd/skerryd
SKERRYD_INSTALL_BINS = skerryd
SKERRYD_TAGS = $(call qstrip,$(BR2_PACKAGE_SKERRYD_TAGS))
SKERRYD_LDFLAGS = -s -w -X $(SKERRYD_GOMOD).Version=$(SKERRYD_VERSION)
# No libc and no C: the same binary runs with glibc, musl and uClibc.
SKERRYD_GO_ENV = CGO_ENABLED=0
ifeq ($(BR2_arm),y)
SKERRYD_GOARM = $(call qstrip,$(BR2_PACKAGE_SKERRYD_GOARM))
ifeq ($(filter 5 6 7,$(SKERRYD_GOARM)),)
$(error BR2_PACKAGE_SKERRYD_GOARM is "$(SKERRYD_GOARM)"; allowed: 5, 6, 7)
endif
SKERRYD_GO_ENV += GOARM=$(SKERRYD_GOARM)
endif

SKERRYD_CONFIG = $(call qstrip,$(BR2_PACKAGE_SKERRYD_CONFIG))
ifeq ($(SKERRYD_CONFIG),)
SKERRYD_CONFIG = $(SKERRYD_PKGDIR)/../../../deb/skerryd.yaml
endif

define SKERRYD_INSTALL_FILES
	ln -sf skerryd $(TARGET_DIR)/usr/bin/skerryctl
	$(INSTALL) -D -m 0640 $(SKERRYD_CONFIG) $(TARGET_DIR)/etc/skerry/skerryd.yaml
	$(INSTALL) -d -m 0755 $(TARGET_DIR)/etc/skerry/board.d
endef
SKERRYD_POST_INSTALL_TARGET_HOOKS += SKERRYD_INSTALL_FILES

define SKERRYD_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(SKERRYD_PKGDIR)/../../../systemd/skerryd.service \
		$(TARGET_DIR)/usr/lib/systemd/system/skerryd.service
	$(INSTALL) -D -m 0644 $(SKERRYD_PKGDIR)/../../../systemd/skerry-shutdown.service \
		$(TARGET_DIR)/usr/lib/systemd/system/skerry-shutdown.service
endef

define SKERRYD_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(SKERRYD_PKGDIR)/S90skerryd $(TARGET_DIR)/etc/init.d/S90skerryd
endef

# What the agent needs of the kernel: the watchdog it feeds; the rest only where pods are.
define SKERRYD_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_WATCHDOG)
	$(call KCONFIG_ENABLE_OPT,CONFIG_WATCHDOG_SYSFS)
endef

$(eval $(golang-package))
