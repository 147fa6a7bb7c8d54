package main

import (
	"fmt"
	"os"
	"text/tabwriter"
)

// row is one line of the table: a figure, what it must not exceed, and what KubeEdge 1.23 showed on the same kind of machine.
type row struct {
	figure, what string
	limit        float64 // 0: none
	scale        float64
	unit         string
	kubeEdge     string
}

// none is the limit of figures that must be 0.
const none = 0.5

func fleetRows() []row {
	return []row{
		{"relay_bytes_per_agent", "relay memory per agent, RSS after a GC", 40e3, 1e-3, "KB", "208–333 KiB, never given back"},
		{"relay_uncollected_bytes_per_agent", "… before it", 0, 1e-3, "KB", ""},
		{"relay_heap_bytes_per_agent", "… heap alone", 0, 1e-3, "KB", ""},
		{"relay_stack_bytes_per_agent", "… stacks alone", 0, 1e-3, "KB", ""},
		{"first_connect_all_s", "all connect, holding nothing", 0, 1, "s", "6.4 s (2,000 agents)"},
		{"connect_all_s", "all connect, holding everything", 0, 1, "s", ""},
		{"fanout_first_p99_ms", "first change to all, p99", 1000, 1, "ms", "24 s (2,000 agents, all)"},
		{"fanout_p50_ms", "one change to all, p50", 0, 1, "ms", ""},
		{"fanout_p99_ms", "… p99", 1000, 1, "ms", "0.3–8.9 s (2,000 agents, all)"},
		{"fanout_max_ms", "… the slowest", 0, 1, "ms", ""},
		{"pods_all_s", "one pod for each agent, first request to last commit", 0, 1, "s", "25 s (2,000 agents)"},
		{"pods_lag_s", "… after the API server's last answer", 0, 1, "s", ""},
		{"reconnect_all_s", "all dropped at once, in sync again", 60, 1, "s", "30 s before the first tries"},
		{"resync_bytes_per_agent", "… bytes per unchanged agent beyond TLS's handshake", 1024, 1, "bytes", ""},
		{"api_lists_on_reconnect", "… LISTs", none, 1, "", ""},
		{"objects_resent", "… objects sent again", none, 1, "", ""},
		{"api_requests_per_reconnect", "… API requests per agent", 0, 1, "", ""},
		{"half_open_detect_agent_s", "half-open: the agent notices", 32, 1, "s", "953 s"},
		{"half_open_detect_relay_s", "half-open: the relay notices", 32, 1, "s", "24 s"},
		{"idle_bytes_per_agent_day", "idle agent a day, TCP/IP included", 2e6, 1e-6, "MB", "26.5 MB"},
		{"api_requests_per_s_idle", "API requests while nothing happens", 0, 1, "1/s", ""},
		{"relay_cpu_idle_percent", "relay's processor time while nothing happens", 0, 1, "% of a core", ""},
		{"relay_restart_all_s", "relay killed and started, all in sync", 0, 1, "s", ""},
		{"relay_restart_requests_peak_per_s", "… its API requests, highest second", 0, 1, "1/s", ""},
		{"relay_restart_server_peak_per_s", "… the API server's, from everybody", 0, 1, "1/s", ""},
		{"failover_s", "one of two relays killed, its agents in sync elsewhere", 30, 1, "s", ""},
		{"failover_hung_s", "relay hangs, all its agents in sync elsewhere", 0, 1, "s", ""},
		{"api_requests_per_s_device_reports", "API requests while devices report", 0, 1, "1/s", ""},
		{"device_updates_reversed", "device values that were shown after newer ones", none, 1, "", "out of order under flood"},
		{"fanout_while_flapping_p99_ms", "change to all while a tenth flaps, p99", 0, 1, "ms", ""},
		{"fanout_beside_stopped_p99_ms", "change to all beside stopped readers, p99", 0, 1, "ms", ""},
		{"stopped_reader_heap_bytes", "relay's heap per stopped reader", 0, 1e-3, "KB", ""},
		{"promises_broken", "commits that went back in time", none, 1, "", ""},
		{"nodes_lost", "Nodes that stopped being Ready", 0, 1, "", ""},
	}
}

// table prints the figures beside what they must hold, and returns those that do not.
func (r *fleetRun) table() (exceeded []string) {
	fmt.Printf("\n%d agents, each with its Node%s%s\n\n", r.f.agents, map[bool]string{true: ", a pod and shared configMaps"}[r.f.pods], map[bool]string{true: ", a device"}[r.f.devices])
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tmeasured\tat most\t\tKubeEdge, 2 cores")
	for _, row := range fleetRows() {
		v, ok := r.figures[row.figure]
		if !ok {
			fmt.Fprintf(w, "%s\tNOT MEASURED\t\t\t%s\n", row.what, row.kubeEdge)
			continue
		}
		limit, verdict := "", ""
		if row.limit > 0 {
			limit, verdict = fmt.Sprintf("%.4g %s", float64(int(row.limit*row.scale)), row.unit), "holds"
			if v > row.limit {
				verdict = "EXCEEDED"
				exceeded = append(exceeded, row.figure)
			}
		}
		fmt.Fprintf(w, "%s\t%.4g %s\t%s\t%s\t%s\n", row.what, v*row.scale, row.unit, limit, verdict, row.kubeEdge)
	}
	fmt.Fprintln(w)
	r.phaseTable(w)
	if err := w.Flush(); err != nil {
		r.say("the table: %v", err)
	}
	fmt.Println()
	for _, n := range r.notes {
		fmt.Println("-", n)
	}
	if missing := r.report.Missing(required()...); len(missing) > 0 {
		fmt.Println("- NOT MEASURED:", missing)
	}
	return exceeded
}

// phaseTable shows who used the processors in each phase: it tells what limits.
func (r *fleetRun) phaseTable(w *tabwriter.Writer) {
	fmt.Fprintln(w, "phase\ttook\tprocessor seconds: simulator\trelays\tcontrol plane\tothers\tload before\tnodes lost")
	for _, p := range r.phases {
		if p.NotRun != "" {
			fmt.Fprintf(w, "%s\tnot run: %s\n", p.Name, p.NotRun)
			continue
		}
		mark := ""
		if p.Failed != "" {
			mark = " FAILED"
		}
		c := p.CPU
		fmt.Fprintf(w, "%s\t%.1f s%s\t%.1f\t%.1f\t%.1f\t%.1f\t%s\t%d\n", p.Name, p.Seconds, mark, c.Simulator, c.Relays, c.ControlPlane, c.Others, p.LoadBefore, p.NodesLost)
	}
}
