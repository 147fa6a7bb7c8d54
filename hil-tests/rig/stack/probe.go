package stack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
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

// Goroutines asks a process for the number of its goroutines, by the metrics that it serves at a host:port.
func Goroutines(ctx context.Context, address string) (int, error) {
	n, err := Metric(ctx, address, "go_goroutines")
	return int(n), err
}

// Metric asks a process that serves its metrics at a host:port for one of them, summed over all labels.
func Metric(ctx context.Context, address, name string) (sum float64, err error) {
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
	found := false
	for line := range strings.Lines(string(body)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s of %s: %w", name, address, err)
		}
		found = true
		sum += v
	}
	if !found {
		return 0, fmt.Errorf("the metrics of %s have no %s", address, name)
	}
	return sum, nil
}

func unmount(path string) error { return unix.Unmount(path, unix.MNT_DETACH) }
