package opcua

import (
	"fmt"
	"slices"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Plan implements device.Planner. It assumes the limits that servers without limits of their own get; what a server can take is only known
// once it is asked.
func (d *Driver) Plan(cfg device.Config, points []device.Point, cycle time.Duration) (device.Plan, error) {
	c, err := parseConfig(cfg)
	if err != nil {
		return device.Plan{}, err
	}
	own, err := pointsOf(points)
	if err != nil {
		return device.Plan{}, err
	}
	plan := device.Plan{Line: c.url}
	s := session{config: c}
	groups := make(map[time.Duration][]int)
	for i, p := range own {
		interval := cycle
		if !c.poll {
			q := *p
			if q.cycle == 0 {
				q.cycle = int32(min(cycle, maxPublishing).Milliseconds())
			}
			interval = s.sampling(&q).publishing
		}
		groups[interval] = append(groups[interval], i)
	}
	size := min(c.maxNodes, defaultLimit)
	if c.poll {
		all := groups[cycle]
		for batch := range slices.Chunk(all, size) {
			plan.Requests = append(plan.Requests, device.PlannedRequest{Text: fmt.Sprintf("read %d nodes", len(batch)), Points: batch, Bytes: 150 + 60*len(batch)})
		}
		plan.Note = "polled: subscribe is false"
		return plan, nil
	}
	intervals := make([]time.Duration, 0, len(groups))
	batches := 0
	for interval, list := range groups {
		intervals = append(intervals, interval)
		batches += (len(list) + size - 1) / size
	}
	slices.Sort(intervals)
	for _, interval := range intervals {
		list := groups[interval]
		plan.Requests = append(plan.Requests, device.PlannedRequest{
			Text: fmt.Sprintf("publishing every %v of what has changed of %d nodes", interval, len(list)), Points: list, Bytes: 150 + 36*len(list),
		})
	}
	plan.Note = fmt.Sprintf("subscribed: %d monitored items in %d subscriptions, made in %d requests; no polling. Bytes are those when everything has changed", len(own), len(intervals), batches)
	return plan, nil
}
