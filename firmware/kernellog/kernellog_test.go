package kernellog

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const log = `6,1,1,-;Booting Linux
6,2,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=1111aaaa,mems_allowed=0,oom_memcg=/kubepods/pod2222bbbb,task_memcg=/kubepods/pod2222bbbb/1111aaaa,task=hog,pid=5,uid=0
6,3,3,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/k.slice/cri-containerd-3333cccc.scope,task_memcg=/k.slice/cri-containerd-3333cccc.scope,task=a,task_memcg=/4444dddd,pid=6,uid=0
3,4,4,-;Memory cgroup out of memory: Killed process 5 (hog)
`

func file(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "kmsg")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKilledForMemory(t *testing.T) {
	path := file(t, log)
	for container, want := range map[string]bool{
		"1111aaaa": true,
		"3333cccc": true,  // systemd's names
		"2222bbbb": false, // the pod, in which another container was killed
		"4444dddd": false, // a process may call itself what it likes
		"5555eeee": false,
		"":         false,
	} {
		if got := KilledForMemory(path, container); got != want {
			t.Errorf("container %q: %v", container, got)
		}
	}
	if KilledForMemory(filepath.Join(t.TempDir(), "none"), "1111aaaa") {
		t.Error("a log that is not there told something")
	}
}

func TestNewest(t *testing.T) {
	path := file(t, "one\ntwo\nthree\n")
	for limit, want := range map[int][]string{1000: {"one", "two", "three"}, 10: {"two", "three"}, 1: {"three"}} {
		if got := Newest(path, limit); !slices.Equal(got, want) {
			t.Errorf("limit %d: %q", limit, got)
		}
	}
	if got := Newest(path+"x", 10); got != nil {
		t.Errorf("%q", got)
	}
}
