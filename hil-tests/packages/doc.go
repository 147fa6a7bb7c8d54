// Package packages installs what board/packages makes for other people's images: the Debian package under a real systemd, and the build of the
// Buildroot package for every GOARM. Its tests have the build tag integration.
package packages
