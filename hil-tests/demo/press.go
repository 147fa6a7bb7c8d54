package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/simulator"
)

// The second device of the demo: an OPC UA server of our own, whose values are subscribed, calculated with and watched at the edge.

const pressName = "press-1"

const pressFile = `
opcua:
  - name: press
    listen: 127.0.0.1:0
    namespace: urn:skerry:demo:press
    points:
      - {name: pressure, type: float64, signal: sine, low: 95, high: 105, period: 10s}
      - {name: strokes, type: uint32, signal: counter, step: 2}
      - {name: load, type: float64, writable: true, value: 60}
`

func (d *demo) startPress(ctx context.Context, _ sayFunc) (string, error) {
	cfg, err := simulator.Parse([]byte(pressFile))
	if err != nil {
		return "", err
	}
	if d.press, err = simulator.Start(ctx, cfg, slog.New(slog.DiscardHandler)); err != nil {
		return "", err
	}
	return "opc.tcp://" + d.press.Addrs()[0], nil
}

func (d *demo) pressArrives(ctx context.Context, _ sayFunc) (string, error) {
	if err := d.apply(ctx, "press.yaml"); err != nil {
		return "", err
	}
	var first, last stack.DeviceState
	err := poll(ctx, 100*time.Millisecond, func() (bool, string, error) {
		now, err := d.cluster.DeviceState(ctx, namespace, pressName)
		if err != nil || len(now.Values) < 4 {
			return false, "no values yet: " + d.whyNot(ctx, pressName), err
		}
		for _, v := range now.Values {
			if v.Quality != "good" {
				return false, fmt.Sprintf("%s is %s: %s", v.Property, v.Quality, v.Reason), nil
			}
		}
		if first.Name == "" {
			first = now
		}
		last = now
		return first.Value("strokes").Value != now.Value("strokes").Value, "values do not change", nil
	})
	if err != nil {
		return "", err
	}
	if v := last.Value("load-percent").Value; v != "50" {
		return "", fmt.Errorf("a load of 60 kN of 120 is %s %%, want 50", v)
	}
	return fmt.Sprintf("strokes %s → %s; load 60 kN is 50 %%, calculated at the edge", first.Value("strokes").Value, last.Value("strokes").Value), nil
}

// alarmed waits until the device's Alarms condition has a status, and returns its message.
func (d *demo) alarmed(ctx context.Context, status metav1.ConditionStatus) (string, error) {
	message := ""
	err := poll(ctx, 50*time.Millisecond, func() (bool, string, error) {
		conds, err := d.cluster.DeviceConditions(ctx, namespace, pressName)
		c := conds["Alarms"]
		message = c.Message
		return c.Status == status, fmt.Sprintf("Alarms is %s: %s", c.Status, c.Message), err
	})
	return message, err
}

func (d *demo) pressAlarm(ctx context.Context, say sayFunc) (string, error) {
	press := d.press.Device("press")
	say("the press takes a load of 118 kN")
	if err := press.Set("load", 118); err != nil {
		return "", err
	}
	raised, err := d.alarmed(ctx, metav1.ConditionTrue)
	if err != nil {
		return "", err
	}
	if err := poll(ctx, 100*time.Millisecond, func() (bool, string, error) {
		events, err := d.stack.Kube.Kubectl(ctx, "get", "events", "-n", namespace, "--field-selector", "involvedObject.name="+pressName+",reason=AlarmRaised", "-o", "jsonpath={.items[*].message}")
		return strings.Contains(events, "stop the press"), "no event yet: " + events, err
	}); err != nil {
		return "", err
	}
	say("and 60 kN again")
	if err := press.Set("load", 60); err != nil {
		return "", err
	}
	if _, err := d.alarmed(ctx, metav1.ConditionFalse); err != nil {
		return "", err
	}
	return raised + "; cleared when the load fell", nil
}
