package stack

import (
	"context"
	"fmt"
	"net/http"
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

func unmount(path string) error { return unix.Unmount(path, unix.MNT_DETACH) }
