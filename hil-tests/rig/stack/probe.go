package stack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// httpOK returns a probe that wants status 200 of url.
func httpOK(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, resp.Status)
		}
		return nil
	}
}

var goroutineLine = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

// Goroutines asks a process for the number of its goroutines, by the metrics that it serves at a host:port.
func Goroutines(ctx context.Context, address string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	m := goroutineLine.FindSubmatch(body)
	if m == nil {
		return 0, fmt.Errorf("the metrics of %s have no go_goroutines", address)
	}
	return strconv.Atoi(string(m[1]))
}

func unmount(path string) error { return unix.Unmount(path, unix.MNT_DETACH) }
