//go:build integration

package kubelet_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// terminal runs kubectl with a pseudo-terminal of a size as its standard streams, and returns what it showed.
func terminal(t *testing.T, rows, columns uint16, args ...string) (out string, code int) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := call(t, slave, args...)
	k.Stdin, k.Stdout, k.Stderr = slave, slave, slave
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	var text strings.Builder
	_, _ = io.Copy(&text, master) // ends with EIO when the last user of the slave is gone
	_ = k.Wait()
	return text.String(), k.ProcessState.ExitCode()
}

// skerryCA returns the pool of the CA that signs the relays' certificates.
func skerryCA(t *testing.T) *x509.CertPool {
	t.Helper()
	s, err := w.cluster.Core.CoreV1().Secrets("skerry-system").Get(t.Context(), "skerry-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, pem := range s.Data {
		pool.AppendCertsFromPEM(pem)
	}
	return pool
}
