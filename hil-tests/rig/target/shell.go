package target

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/skerry/skerry/board/strict"
)

// maxLine is the longest line of a command: a terminal's driver drops what is beyond 4,095 bytes.
const maxLine = 2000

// shell runs commands in a POSIX shell at the other end of a console.
type shell struct {
	console *Console
	user    string // who logs in first; empty: there is a shell
	pass    string

	mu    sync.Mutex
	count int
	login bool // since the last boot
}

// booted tells that a shell before is gone.
func (s *shell) booted() {
	s.mu.Lock()
	s.login = false
	s.mu.Unlock()
}

var (
	promptOrLogin = regexp.MustCompile(`(?m)([lL]ogin: *$)|([#$>] *$)`)
	ready         = regexp.MustCompile(`SKERRY-READY\r?\n`)
	wantsPassword = regexp.MustCompile(`[pP]assword: *`)
	loginOrPrompt = regexp.MustCompile(`(?m)([pP]assword: *$)|([lL]ogin incorrect)|([#$>] *$)`)
)

// Exec runs command in a subshell. Nothing may be written to the console meanwhile.
func (s *shell) Exec(ctx context.Context, command string) (Result, error) {
	for line := range strings.Lines(command) {
		if len(line) > maxLine {
			return Result{}, fmt.Errorf("a line of the command has %d bytes: %d are allowed on a console", len(line), maxLine)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.user != "" && !s.login {
		if err := s.logIn(ctx); err != nil {
			return Result{}, err
		}
	}
	s.count++
	// The marks are written in two halves, so that a terminal's echo of the command is none.
	mark := fmt.Sprintf("SKERRY-%d", s.count)
	text := fmt.Sprintf("printf '%%s-%%s\\n' BEGIN '%[1]s'\n(\n%[2]s\n) </dev/null 2>&1; printf '\\n%%s-%%s %%d\\n' END '%[1]s' $?\n", mark, command)
	s.console.Skip()
	if _, err := s.console.Write([]byte(text)); err != nil {
		return Result{}, err
	}
	all := regexp.MustCompile(`(?s)BEGIN-` + mark + `\r?\n(.*?)\r?\nEND-` + mark + ` (\d+)\r?\n`)
	groups, err := s.console.Expect(ctx, all)
	if err != nil {
		s.login = false // a login begins anew, and an interrupt ends what hangs
		_, _ = s.console.Write([]byte("\x03\n"))
		return Result{}, fmt.Errorf("run %q: %w", strict.Clip(command), err)
	}
	status, err := strconv.Atoi(groups[2])
	if err != nil {
		return Result{}, fmt.Errorf("status of %q: %w", strict.Clip(command), err)
	}
	return Result{Output: strings.ReplaceAll(groups[1], "\r\n", "\n"), Status: status}, nil
}

// logIn brings a terminal to a shell, whoever is logged in.
func (s *shell) logIn(ctx context.Context) error {
	s.console.Skip()
	if _, err := s.console.Write([]byte("\n")); err != nil {
		return err
	}
	groups, err := s.console.Expect(ctx, promptOrLogin)
	if err != nil {
		return err
	}
	if groups[1] != "" {
		if err := s.enter(ctx); err != nil {
			return err
		}
	}
	// Without prompts and echo there is nothing but what commands write; the mark is in two halves for an echo's sake.
	if _, err := s.console.Write([]byte("stty -echo 2>/dev/null; dmesg -n 1 2>/dev/null; PS1= PS2=; echo SKERRY''-READY\n")); err != nil {
		return err
	}
	if _, err := s.console.Expect(ctx, ready); err != nil {
		return err
	}
	s.login = true
	return nil
}

func (s *shell) enter(ctx context.Context) error {
	if _, err := s.console.Write([]byte(s.user + "\n")); err != nil {
		return err
	}
	if s.pass != "" {
		if _, err := s.console.Expect(ctx, wantsPassword); err != nil {
			return err
		}
		if _, err := s.console.Write([]byte(s.pass + "\n")); err != nil {
			return err
		}
	}
	groups, err := s.console.Expect(ctx, loginOrPrompt)
	switch {
	case err != nil:
		return err
	case groups[1] != "" || groups[2] != "":
		return errors.New("console.user and console.password of the rig file are refused by the gateway")
	}
	return nil
}
