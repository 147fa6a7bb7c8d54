package watchdog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Systemd is the service manager that has started the agent (sd_notify(3)). Its methods may be called concurrently.
type Systemd struct {
	address *net.UnixAddr
	timeout time.Duration // 0: the unit has no WatchdogSec=
}

// FromEnvironment returns the service manager that the environment names; nil if there is none. Getenv is os.Getenv.
func FromEnvironment(getenv func(string) string) (*Systemd, error) {
	at := getenv("NOTIFY_SOCKET")
	if at == "" {
		return nil, nil
	}
	if at[0] != '/' && at[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET %q: allowed are an absolute path, and a name after @", at)
	}
	s := &Systemd{address: &net.UnixAddr{Name: at, Net: "unixgram"}}
	text := getenv("WATCHDOG_USEC")
	if pid := getenv("WATCHDOG_PID"); text == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return s, nil
	}
	usec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || usec <= 0 || usec > int64(365*24*time.Hour/time.Microsecond) {
		return s, fmt.Errorf("WATCHDOG_USEC %q: a number of microseconds is needed", text)
	}
	s.timeout = time.Duration(usec) * time.Microsecond
	return s, nil
}

// Watches reports whether the unit has WatchdogSec=.
func (s *Systemd) Watches() bool { return s != nil && s.timeout > 0 }

// Feed says that the agent is alive.
func (s *Systemd) Feed() error { return s.notify("WATCHDOG=1") }

// Ready says that the agent runs.
func (s *Systemd) Ready() error { return s.notify("READY=1") }

// Stopping says that it is about to end.
func (s *Systemd) Stopping() error { return s.notify("STOPPING=1") }

// Status shows text in `systemctl status`.
func (s *Systemd) Status(text string) error {
	return s.notify("STATUS=" + strings.ReplaceAll(text, "\n", " "))
}

// Timeout is WatchdogSec=.
func (s *Systemd) Timeout() time.Duration { return s.timeout }

// Close does nothing: systemd stops to watch a service that ends.
func (s *Systemd) Close(bool) error { return nil }

// Caveats is "": there are none.
func (s *Systemd) Caveats() string { return "" }

func (s *Systemd) String() string { return "systemd's WatchdogSec=" }

func (s *Systemd) notify(state string) (err error) {
	if s == nil {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, s.address)
	if err != nil {
		return fmt.Errorf("notify systemd of %s: %w", state, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify systemd of %s: %w", state, err)
	}
	return nil
}
