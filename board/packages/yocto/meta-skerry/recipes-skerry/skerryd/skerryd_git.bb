SUMMARY = "Edge agent for Kubernetes with Modbus, OPC UA and serial built in"
HOMEPAGE = "https://github.com/skerry/skerry"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://src/${GO_IMPORT}/LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

# Name a commit for builds that can be repeated: SRCREV:pn-skerryd = "…" in local.conf or in the distribution.
SRCREV ?= "${AUTOREV}"
PV = "0.1.0+git"
SRC_URI = "git://github.com/skerry/skerry;protocol=https;branch=main;destsuffix=${GO_SRCURI_DESTSUFFIX}"

GO_IMPORT = "github.com/skerry/skerry"
GO_INSTALL = "${GO_IMPORT}/firmware/cmd/skerryd"
# No libc and no C. The binary is static and holds no text relocations.
CGO_ENABLED = "0"
GO_LINKSHARED = ""
GO_DYNLINK = ""
GO_LINUXLOADER = ""
GO_EXTRA_LDFLAGS = "-s -w -X ${GO_IMPORT}.Version=${PV}-${SRCPV}"

# 5, 6 or 7, where the machine's tune says too little: SKERRYD_GOARM = "5" for an ARMv7 without VFPv3-D16, for example.
SKERRYD_GOARM ?= "${TARGET_GOARM}"
GOARM:arm:class-target = "${SKERRYD_GOARM}"

# Drivers to leave out, separated by commas: nomodbus, noopcua, noserial.
SKERRYD_TAGS ?= ""
GOBUILDFLAGS:append = "${@' -tags ' + d.getVar('SKERRYD_TAGS') if d.getVar('SKERRYD_TAGS') else ''}"

inherit go-mod systemd update-rc.d

# Modules are fetched as the recipe is compiled, and checked against go.sum. Without a network there, put the result of `go mod vendor` into the
# source tree (a bbappend with a tarball), and GOFLAGS = "-mod=vendor".
do_compile[network] = "1"

SYSTEMD_SERVICE:${PN} = "skerryd.service skerry-shutdown.service"
INITSCRIPT_NAME = "skerryd"
INITSCRIPT_PARAMS = "defaults 90"

do_install() {
    install -D -m 0755 ${B}/${GO_BUILD_BINDIR}/skerryd ${D}${bindir}/skerryd
    ln -s skerryd ${D}${bindir}/skerryctl
    packages=${S}/src/${GO_IMPORT}/board/packages
    install -D -m 0640 $packages/deb/skerryd.yaml ${D}${sysconfdir}/skerry/skerryd.yaml
    install -d ${D}${sysconfdir}/skerry/board.d
    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'true', 'false', d)}; then
        install -D -m 0644 $packages/systemd/skerryd.service ${D}${systemd_system_unitdir}/skerryd.service
        install -D -m 0644 $packages/systemd/skerry-shutdown.service ${D}${systemd_system_unitdir}/skerry-shutdown.service
    else
        install -D -m 0755 $packages/buildroot/package/skerryd/S90skerryd ${D}${sysconfdir}/init.d/skerryd
    fi
}

CONFFILES:${PN} = "${sysconfdir}/skerry/skerryd.yaml"
RRECOMMENDS:${PN} = "ca-certificates"
INSANE_SKIP:${PN} += "already-stripped"
COMPATIBLE_HOST = "(arm|aarch64|x86_64).*-linux.*"
