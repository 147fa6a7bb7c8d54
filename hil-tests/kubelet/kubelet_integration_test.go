//go:build integration

package kubelet_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// both runs a test through the relay that has the agent, and through the one that has not.
func both(t *testing.T, test func(t *testing.T)) {
	for name, r := range map[string]string{"its relay": w.holder.KubeletAt, "another relay": w.other.KubeletAt} {
		t.Run("through "+name, func(t *testing.T) {
			w.balancer.Through(r)
			test(t)
		})
	}
}

const shell = `
  containers:
    - name: main
      image: $BUSYBOX
      command: [sh, -c, "echo begins; i=0; while :; do i=$((i+1)); echo line $i; echo err $i >&2; sleep 1; done"]
`

func TestNodeSaysWhereItsKubeletIs(t *testing.T) {
	stacktest.Eventually(t, patience, "addressed", func() (bool, string) {
		out, _ := run(t, nil, "get", "node", node, "-o", "jsonpath={.status.addresses}{.status.daemonEndpoints}{.status.declaredFeatures}{.metadata.annotations}")
		return strings.Contains(out, `"InternalIP"`) && strings.Contains(out, `"`+w.balancer.Host()+`"`) && !strings.Contains(out, "Hostname") &&
			strings.Contains(out, fmt.Sprintf(`"Port":%d`, w.balancer.Port())) && strings.Contains(out, "skerry.dev/gateway-addresses"), out
	})
}

func TestLogs(t *testing.T) {
	pod(t, "talks", shell)
	stacktest.Eventually(t, patience, "some lines", func() (bool, string) {
		out, _ := run(t, nil, "logs", "talks")
		return strings.Contains(out, "line 3\n") && strings.Contains(out, "err 3\n"), out
	})
	both(t, func(t *testing.T) {
		// Each output is in its order; between the two there is none, so the first line is one of two.
		all := must(t, "logs", "talks")
		for output, first := range map[string]string{"line ": "begins line 1 line 2 line 3", "err ": "err 1 err 2 err 3"} {
			var lines []string
			for l := range strings.Lines(all) {
				if strings.HasPrefix(l, output) || output == "line " && l == "begins\n" {
					lines = append(lines, strings.TrimSuffix(l, "\n"))
				}
			}
			if !strings.HasPrefix(strings.Join(lines, " ")+" ", first+" ") {
				t.Errorf("logs: %q do not begin with %q: %q", lines, first, all)
			}
		}
		if out := must(t, "logs", "talks", "--tail=2"); strings.Count(out, "\n") != 2 || strings.Contains(out, "begins") {
			t.Errorf("--tail=2: %q", out)
		}
		if out := must(t, "logs", "talks", "--limit-bytes=5"); len(out) != 5 || !strings.HasPrefix(all, out) {
			t.Errorf("--limit-bytes: %q", out)
		}
		if out := must(t, "logs", "talks", "--timestamps", "--tail=1"); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\S* (line|err) \d+\n$`).MatchString(out) {
			t.Errorf("--timestamps: %q", out)
		}
		time.Sleep(2 * time.Second) // what is older than a second has to be
		if out := must(t, "logs", "talks", "--since=1s"); strings.Contains(out, "begins") || !strings.Contains(out, "line") {
			t.Errorf("--since: %q", out)
		}
		k := call(t, nil, "logs", "-f", "talks", "--tail=1")
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
		stacktest.Eventually(t, patience, "following", func() (bool, string) { return strings.Count(k.out.String(), "line") >= 3, k.out.String() })
		_ = k.Process.Kill()
		_ = k.Wait()
	})
	must(t, "logs", "talks", "-c", "main")
	if out, code := run(t, nil, "logs", "talks", "-c", "none"); code == 0 || !strings.Contains(out, "container none is not valid") {
		t.Errorf("%d %s", code, out)
	}
}

func TestLogsOfEarlierRunsAndWaitingContainers(t *testing.T) {
	pod(t, "fails", `
  initContainers:
    - {name: first, image: $BUSYBOX, command: [sh, -c, "echo prepared"]}
  containers:
    - name: main
      image: $BUSYBOX
      command: [sh, -c, "n=$(cat /data/n 2>/dev/null || echo 0); echo $((n+1)) > /data/n; echo run $n; [ $n -gt 0 ] && sleep 1000; exit 3"]
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
`)
	stacktest.Eventually(t, patience, "started again", func() (bool, string) {
		out, _ := run(t, nil, "logs", "fails", "-c", "main")
		return out == "run 1\n", out
	})
	both(t, func(t *testing.T) {
		if out := must(t, "logs", "fails", "-c", "main", "--previous"); out != "run 0\n" {
			t.Errorf("--previous: %q", out)
		}
		if out := must(t, "logs", "fails", "-c", "first"); out != "prepared\n" {
			t.Errorf("init container: %q", out)
		}
		if out, code := run(t, nil, "logs", "fails", "-c", "first", "--previous"); code == 0 || !strings.Contains(out, `previous terminated container "first" in pod "fails" not found`) {
			t.Errorf("%d %q", code, out)
		}
	})
	pod(t, "waits", "\n  containers:\n    - {name: main, image: \"127.0.0.1:1/none:1\"}\n", "Pending")
	stacktest.Eventually(t, patience, "said to wait", func() (bool, string) {
		out, code := run(t, nil, "logs", "waits")
		return code != 0 && regexp.MustCompile(`container "main" in pod "waits" is waiting to start: (ErrImagePull|ImagePullBackOff)`).MatchString(out), out
	})
}

// TestFollowEndsWithTheContainer, and reads what a container wrote before it ended after the agent was restarted, from rotated files too.
func TestFollowToTheEnd(t *testing.T) {
	pod(t, "ends", `
  restartPolicy: Never
  containers:
    - {name: main, image: $BUSYBOX, command: [sh, -c, "for i in 1 2 3; do echo line $i; sleep 1; done"]}
`, "Running", "Succeeded")
	if out := must(t, "logs", "-f", "ends"); out != "line 1\nline 2\nline 3\n" {
		t.Errorf("%q", out)
	}
	pod(t, "much", `
  restartPolicy: Never
  containers:
    - {name: main, image: $BUSYBOX, command: [sh, -c, "yes 0123456789012345678901234567890123456789 | head -n 100000 & for i in 1 2 3 4 5 6; do sleep 4; echo later $i; done"]}
`)
	stacktest.Eventually(t, patience, "rotated", func() (bool, string) {
		m, _ := filepath.Glob(filepath.Join(w.PodLogs(), "default_much_*", "main", "0.log.1"))
		return len(m) > 0, ""
	})
	if err := w.KillAgent(); err != nil {
		t.Fatal(err)
	}
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, "read again", func() (bool, string) {
		out, code := run(t, nil, "logs", "much")
		return code == 0 && strings.Count(out, "0123456789012345678901234567890123456789\n") == 100000, fmt.Sprintf("%d bytes, %.200s", len(out), out)
	})
}

const sleeps = `
  containers:
    - {name: main, image: $BUSYBOX, command: [sleep, "1000"]}
`

func TestExec(t *testing.T) {
	pod(t, "box", sleeps)
	both(t, func(t *testing.T) {
		if out := must(t, "exec", "box", "--", "echo", "a b", "c"); out != "a b c\n" {
			t.Errorf("%q", out)
		}
		if out, code := run(t, nil, "exec", "box", "--", "sh", "-c", "echo out; echo bad >&2; exit 7"); code != 7 || !strings.Contains(out, "out\n") || !strings.Contains(out, "bad\n") {
			t.Errorf("%d %q", code, out)
		}
		if out, code := run(t, strings.NewReader("one\ntwo\n"), "exec", "-i", "box", "--", "wc", "-l"); code != 0 || strings.TrimSpace(out) != "2" {
			t.Errorf("stdin: %d %q", code, out)
		}
		big := strings.Repeat("0123456789abcdef", 128<<10) // 2 MiB there and back
		k := call(t, strings.NewReader(big), "exec", "-i", "box", "--", "cat")
		if err := k.Run(); err != nil || k.out.String() != big {
			t.Errorf("2 MiB: %v, %d bytes came back: %s", err, len(k.out.String()), k.errs.String())
		}
		if out, code := run(t, nil, "exec", "box", "--", "none"); code == 0 || !strings.Contains(out, "none") {
			t.Errorf("%d %q", code, out)
		}
		// The old way, too: kubectl speaks SPDY to the API server.
		k = callEnv(t, []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false"}, strings.NewReader("x"), "exec", "-i", "box", "--", "cat")
		if err := k.Run(); err != nil || k.out.String() != "x" {
			t.Errorf("SPDY: %v %q %s", err, k.out.String(), k.errs.String())
		}
	})
	if out, code := run(t, nil, "exec", "box", "-c", "none", "--", "true"); code == 0 || !strings.Contains(out, "none") {
		t.Errorf("%d %q", code, out)
	}
}

func TestAttach(t *testing.T) {
	pod(t, "reader", `
  containers:
    - {name: main, image: $BUSYBOX, stdin: true, command: [sh, -c, "while read x; do echo got $x; done; sleep 1000"]}
`)
	both(t, func(t *testing.T) {
		in, feed := io.Pipe()
		k := call(t, in, "attach", "-i", "reader")
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(feed, "hello")
		stacktest.Eventually(t, patience, "answered", func() (bool, string) {
			return strings.Contains(k.out.String(), "got hello"), k.out.String() + k.errs.String()
		})
		_ = k.Process.Kill()
		_ = feed.Close()
		_ = k.Wait()
	})
}

func TestPortForward(t *testing.T) {
	pod(t, "web", "\n  containers:\n    - {name: main, image: $SAMPLE}\n")
	both(t, func(t *testing.T) {
		k := call(t, nil, "port-forward", "pod/web", ":8080")
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = k.Process.Kill(); _ = k.Wait() }()
		at := regexp.MustCompile(`127\.0\.0\.1:(\d+)`)
		stacktest.Eventually(t, patience, "listening", func() (bool, string) { return at.MatchString(k.out.String()), k.out.String() + k.errs.String() })
		for range 3 {
			resp, err := http.Get("http://" + at.FindString(k.out.String()) + "/healthz")
			if err != nil {
				t.Fatalf("%v: %s", err, k.errs.String())
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != 200 || !strings.Contains(string(body), "ok") {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
		}
	})
}

func TestCopy(t *testing.T) {
	pod(t, "files", sleeps)
	dir := t.TempDir()
	want := strings.Repeat("all of it\n", 50000)
	if err := os.WriteFile(filepath.Join(dir, "there"), []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T) {
		must(t, "cp", filepath.Join(dir, "there"), "default/files:/tmp/file")
		must(t, "cp", "default/files:/tmp/file", filepath.Join(dir, "back"))
		if got, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(got) != want {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		must(t, "exec", "files", "--", "rm", "/tmp/file")
	})
}

// TestNodePaths asks for statistics as metrics-server and people do.
func TestNodePaths(t *testing.T) {
	pod(t, "counted", "\n  containers:\n    - {name: main, image: $SAMPLE}\n")
	both(t, func(t *testing.T) {
		var sum struct {
			Node struct{ NodeName string }
			Pods []struct {
				PodRef     struct{ Name string }
				Containers []struct {
					Name   string
					CPU    struct{ UsageCoreNanoSeconds uint64 }
					Memory struct{ WorkingSetBytes uint64 }
				}
			}
		}
		stacktest.Eventually(t, patience, "counted", func() (bool, string) {
			out, code := run(t, nil, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")
			if code != 0 || json.Unmarshal([]byte(out), &sum) != nil {
				return false, out
			}
			for _, p := range sum.Pods {
				if p.PodRef.Name == "counted" && len(p.Containers) == 1 && p.Containers[0].Memory.WorkingSetBytes > 0 && p.Containers[0].CPU.UsageCoreNanoSeconds > 0 {
					return sum.Node.NodeName == node, out
				}
			}
			return false, out
		})
		out := must(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/nodes/"+node+"/metrics/resource")
		for _, want := range []string{"node_cpu_usage_seconds_total ", "node_memory_working_set_bytes ", `container_memory_working_set_bytes{container="main",namespace="default",pod="counted"} `, `container_start_time_seconds{container="main",namespace="default",pod="counted"} `, "resource_scrape_error 0"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %s in\n%s", want, out)
			}
		}
		if out, code := run(t, nil, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/nodes/gw-2/stats/summary"); code == 0 || !strings.Contains(out, `there is no node "gw-2"`) {
			t.Errorf("%d %s", code, out)
		}
		out = must(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/pods")
		if !strings.Contains(out, `"counted"`) || !strings.Contains(out, `"phase":"Running"`) {
			t.Errorf("pods: %.500s", out)
		}
	})
}

// TestStrangers: whoever is not the API server, and has no token that may, gets nothing.
func TestStrangers(t *testing.T) {
	pod(t, "private", sleeps)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: skerryCA(t), MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	get := func(token string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://%s:%d", w.balancer.Host(), w.balancer.Port())+"/containerLogs/default/private/main", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if status, body := get(""); status != http.StatusUnauthorized {
		t.Errorf("nobody: %d %s", status, body)
	}
	if status, body := get("forged"); status != http.StatusUnauthorized {
		t.Errorf("a forged token: %d %s", status, body)
	}
	must(t, "create", "serviceaccount", "reader")
	token := strings.TrimSpace(must(t, "create", "token", "reader"))
	if status, body := get(token); status != http.StatusForbidden || !strings.Contains(body, `user "system:serviceaccount:default:reader" may not get nodes/proxy of the node`) || strings.Contains(body, node) {
		t.Errorf("without rights, and without learning which node the pod is on: %d %s", status, body)
	}
	must(t, "create", "serviceaccount", "operator")
	must(t, "create", "clusterrole", "operator", "--verb=get", "--resource=nodes/proxy")
	must(t, "create", "clusterrolebinding", "operator", "--clusterrole=operator", "--serviceaccount=default:operator")
	token = strings.TrimSpace(must(t, "create", "token", "operator"))
	if status, body := get(token); status != http.StatusOK {
		t.Errorf("with rights: %d %s", status, body)
	}
}

// TestRelayEndsInTheMiddle: whoever is in a session hears of it, and the next call works once the agent is back.
func TestRelayEndsInTheMiddle(t *testing.T) {
	pod(t, "long", sleeps)
	w.balancer.Through(w.other.KubeletAt)
	k := call(t, nil, "exec", "long", "--", "sh", "-c", "echo here; sleep 100")
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, "in the session", func() (bool, string) { return strings.Contains(k.out.String(), "here"), k.errs.String() })
	if err := w.holder.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := k.Wait(); err == nil || time.Since(begin) > 20*time.Second {
		t.Errorf("after %v: %v %s", time.Since(begin), err, k.errs.String())
	}
	if out, code := run(t, nil, "exec", "long", "--", "true"); code == 0 || !strings.Contains(out, node) {
		t.Errorf("while the gateway is away: %d %s", code, out)
	}
	if err := w.holder.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, "back", func() (bool, string) {
		out, code := run(t, nil, "exec", "long", "--", "echo", "again")
		return code == 0 && out == "again\n", out
	})
}

// TestNodePort comes last: from then on the node has a port of its own, at which node-level paths need no name.
func TestZNodePort(t *testing.T) {
	if err := w.StopAgent(); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteAgentConfig(func(doc map[string]any) { doc["relay"] = map[string]any{"addresses": []string{w.other.At}} }); err != nil {
		t.Fatal(err)
	}
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, patience, "given a port", func() (bool, string) {
		out, _ := run(t, nil, "get", "node", node, "-o", `jsonpath={.metadata.annotations.skerry\.dev/kubelet-port} {.status.daemonEndpoints.kubeletEndpoint.Port}`)
		a, b, _ := strings.Cut(out, " ")
		return a != "" && a == b && a >= fmt.Sprint(w.first) && a <= fmt.Sprint(w.last), out
	})
	stacktest.Eventually(t, patience, "reached there", func() (bool, string) {
		out, code := run(t, nil, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")
		return code == 0 && strings.Contains(out, `"nodeName":"`+node+`"`), out
	})
	out := must(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/metrics/resource")
	if !strings.Contains(out, "node_memory_working_set_bytes ") {
		t.Error(out)
	}
	pod(t, "last", shell)
	stacktest.Eventually(t, patience, "logs come by that port", func() (bool, string) {
		out, code := run(t, nil, "logs", "last")
		return code == 0 && strings.Contains(out, "begins"), out
	})
}
