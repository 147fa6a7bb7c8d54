package diagnose

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/skerry/skerry/firmware/localhttp"
)

// Pages are what a running agent tells on its status socket, by their paths there, and the files that they become.
func Pages() map[string]string {
	return map[string]string{"status": "agent/status.json", "metrics": "agent/metrics.txt", "goroutines": "agent/goroutines.txt", "log": "agent/agent.log"}
}

// Agent are the sources that ask the agent behind a status socket. One that is wedged may still answer some.
func Agent(socket string) []Source {
	var out []Source
	for _, page := range []string{"status", "metrics", "goroutines", "log"} {
		out = append(out, Source{Pages()[page], func(ctx context.Context, w io.Writer) error { return fetch(ctx, socket, page, w) }})
	}
	return out
}

func fetch(ctx context.Context, socket, page string, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://skerryd/"+page, nil)
	if err != nil {
		return err
	}
	resp, err := localhttp.Client(socket).Do(req)
	if err != nil {
		return localhttp.Explain(socket, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the agent on %s for %s: HTTP %s", socket, page, resp.Status)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}
