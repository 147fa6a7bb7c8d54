package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// table draws what Kubernetes knows of the edge, once a second until ctx ends.
func table(ctx context.Context, out io.Writer, c *stack.Cluster) {
	for {
		var b bytes.Buffer
		b.WriteString("\033[H\033[J") // home, clear: the table replaces itself
		if err := draw(ctx, &b, c, time.Now()); err != nil && ctx.Err() == nil {
			fmt.Fprintf(&b, "cannot read the cluster: %v\n", err)
		}
		fmt.Fprint(&b, "\nCtrl-C ends the demo and removes everything that it started.\n")
		_, _ = out.Write(b.Bytes())
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func draw(ctx context.Context, w io.Writer, c *stack.Cluster, now time.Time) error {
	nodes, err := c.Core.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	pods, err := c.Core.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName!="})
	if err != nil {
		return err
	}
	states, err := c.DeviceStates(ctx, "")
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 2, 0, 3, ' ', 0)
	fmt.Fprintln(t, "NODE\tREADY\tAGENT\tARCH\tKERNEL\tAGE")
	for _, n := range nodes.Items {
		ready := "Unknown"
		for _, cond := range n.Status.Conditions {
			if cond.Type == corev1.NodeReady {
				ready = string(cond.Status)
			}
		}
		i := n.Status.NodeInfo
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, ready, i.KubeletVersion, i.Architecture, i.KernelVersion, since(now, n.CreationTimestamp.Time))
	}
	fmt.Fprintln(t, "\nPOD\tNODE\tPHASE\tRESTARTS\tIP\tAGE")
	for _, p := range pods.Items {
		restarts := int32(0)
		for _, cs := range p.Status.ContainerStatuses {
			restarts += cs.RestartCount
		}
		fmt.Fprintf(t, "%s/%s\t%s\t%s\t%d\t%s\t%s\n", p.Namespace, p.Name, p.Spec.NodeName, p.Status.Phase, restarts, p.Status.PodIP, since(now, p.CreationTimestamp.Time))
	}
	fmt.Fprintln(t, "\nDEVICE\tSTATE\tPROPERTY\tVALUE\tQUALITY\tDESIRED\tAGE")
	for _, d := range states {
		for _, v := range d.Values {
			desired := v.Desired
			if v.Outcome != "" {
				desired += " (" + v.Outcome + ")"
			}
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s %s\t%s\t%s\t%s\n", d.Namespace, d.Name, d.State, v.Property, v.Value, v.Unit, v.Quality, desired, since(now, v.At))
		}
	}
	return t.Flush()
}

func since(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	if d := now.Sub(then); d >= 10*time.Second {
		return d.Round(time.Second).String()
	} else {
		return d.Round(100 * time.Millisecond).String()
	}
}
