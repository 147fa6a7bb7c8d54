package agent

import (
	"context"
	"encoding/json"
	"io"
	"runtime"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/boardctl"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/health/diagnose"
)

const (
	logKept    = 64 << 10 // bytes of the agent's own log in memory
	stacksKept = 384 << 10
)

// pages are what the status socket tells beside the status, for a bundle that is made on the gateway.
func (a *Agent) pages() map[string]func(io.Writer) error {
	return map[string]func(io.Writer) error{
		"metrics":    func(w io.Writer) error { a.metrics.write(w); return nil },
		"goroutines": goroutines,
		"log":        a.lines.Last,
	}
}

// goroutines writes the stacks of all goroutines, as many as fit.
func goroutines(w io.Writer) error {
	b := make([]byte, stacksKept)
	_, err := w.Write(b[:runtime.Stack(b, true)])
	return err
}

// diagnose writes a bundle of this gateway, for the cluster.
func (a *Agent) diagnose(ctx context.Context, w io.Writer) error {
	from := func(f func(io.Writer) error) func(context.Context, io.Writer) error {
		return func(_ context.Context, w io.Writer) error { return f(w) }
	}
	files, pages := diagnose.Pages(), a.pages()
	own := []diagnose.Source{{Name: files["status"], Collect: from(func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(a.status())
	})}}
	for _, page := range []string{"metrics", "goroutines", "log"} {
		own = append(own, diagnose.Source{Name: files[page], Collect: from(pages[page])})
	}
	return diagnose.Write(ctx, w, own, LocalSources(a.cfg))
}

// unit is what systemd knows the agent as.
const unit = "skerryd.service"

// LocalSources are the parts of a diagnostic bundle that need no running agent: the machine, its board, the configuration, the journal.
func LocalSources(cfg config.Config) []diagnose.Source {
	list := []diagnose.Source{
		{Name: "config.yaml", Collect: func(_ context.Context, w io.Writer) error {
			text, err := cfg.YAML()
			if err != nil {
				return err
			}
			_, err = w.Write(text)
			return err
		}},
		{Name: "board.txt", Collect: func(_ context.Context, w io.Writer) error {
			env := boardctl.Env{Stdout: w, Stderr: w, Root: "/", Dir: cfg.Board.Dir, Name: cfg.Board.Name}
			if env.Dir == "" {
				env.Dir = board.DefaultDir
			}
			_, err := boardctl.Run([]string{"check"}, env)
			return err
		}},
	}
	return append(list, diagnose.Machine(diagnose.Place{Root: "/", DataDir: cfg.DataDir, Journal: JournalDir(cfg), LogDir: cfg.Pods.LogDir, Unit: unit})...)
}
