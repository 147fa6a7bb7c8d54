// Package leaks counts what pods leave on a node: sandboxes, containers, shims, mounts, cgroups, addresses, folders and logs of a stack's agent and
// runtime.
//
//	before, err := leaks.Take(ctx, s)
//	… pods come and go …
//	after, err := leaks.Take(ctx, s)
//	for _, line := range leaks.Diff(before, after) { t.Error(line) }
//
// Take only reads, and may be called while pods run; what is being made or removed at that moment may be in it or not. Counters of the agent's own
// process are in Process. Both are used by hil-tests/chaos, which is also how they are tested: a census of a node with one pod is not empty.
package leaks

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// Census is what there is, by kind: names of things. Kinds are "sandbox", "container", "shim", "mount", "cgroup", "address", "folder" and "log".
type Census map[string][]string

// Take looks at a stack's node.
func Take(ctx context.Context, s *stack.Stack) (Census, error) {
	c := Census{}
	boxes, err := s.Runtime.Client().ListPodSandbox(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	for i := range boxes {
		c.add("sandbox", boxes[i].ID)
	}
	containers, err := s.Runtime.Client().ListContainers(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	for i := range containers {
		c.add("container", containers[i].ID)
	}
	for _, pid := range s.Runtime.Shims() {
		c.add("shim", fmt.Sprint(pid))
	}
	mounts, err := s.Runtime.Mounts()
	if err != nil {
		return nil, err
	}
	c["mount"] = mounts
	own, err := mountsBelow(filepath.Join(s.AgentData(), "pods"))
	if err != nil {
		return nil, err
	}
	c["mount"] = append(c["mount"], own...)
	c["address"] = s.Runtime.Addresses()
	c.cgroups(s.Runtime.CgroupParent())
	if err := c.entries("folder", filepath.Join(s.AgentData(), "pods")); err != nil {
		return nil, err
	}
	return c, c.entries("log", s.PodLogs())
}

func (c Census) add(kind, name string) { c[kind] = append(c[kind], name) }

// entries adds what is in a folder.
func (c Census) entries(kind, dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	for _, e := range list {
		if e.IsDir() {
			c.add(kind, e.Name())
		}
	}
	return nil
}

// cgroups adds the cgroups below the pods' parent, in every hierarchy, and not the parent itself.
func (c Census) cgroups(parent string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*") //nolint:errcheck // a constant pattern
	for _, root := range append(roots, "/sys/fs/cgroup") {
		top := filepath.Join(root, parent)
		filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error { //nolint:errcheck // returns nil
			if err == nil && d.IsDir() && path != top {
				c.add("cgroup", path)
			}
			return nil
		})
	}
}

func mountsBelow(dir string) (out []string, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look for mounts: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			out = append(out, f[4])
		}
	}
	return out, nil
}

// Diff names what is in after and was not in before, by kind: what has leaked.
func Diff(before, after Census) (lines []string) {
	for _, kind := range slices.Sorted(maps.Keys(after)) {
		var left []string
		for _, name := range after[kind] {
			if !slices.Contains(before[kind], name) {
				left = append(left, name)
			}
		}
		if len(left) > 0 {
			lines = append(lines, fmt.Sprintf("%d × %s left: %s", len(left), kind, strings.Join(left[:min(len(left), 5)], " ")))
		}
	}
	return lines
}

// Process is what a process holds.
type Process struct {
	Files  int   // open file descriptors
	Thread int   // threads
	PSS    int64 // bytes
}

// Measure looks at a process.
func Measure(p *process.Process) (Process, error) {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	if err != nil {
		return Process{}, fmt.Errorf("count the files of %s: %w", p.Name(), err)
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID()))
	if err != nil {
		return Process{}, fmt.Errorf("count the threads of %s: %w", p.Name(), err)
	}
	m, err := p.Memory()
	return Process{Files: len(fds), Thread: len(threads), PSS: m.PSS}, err
}
