// Package eviction decides when a node is under pressure, when pods have to go, and which one goes first. It is pure logic: who
// uses it measures, tells the time, and ends the pods.
//
//	rules, err := eviction.Rules{Hard: map[string]string{"memory.available": "5%"}}.Parse()
//	var s eviction.State
//	d := s.Step(rules, observations, time.Now())
//	for _, t := range d.Due { // reclaim what nobody uses, look again, and if it is not enough:
//		eviction.Rank(t.Signal, pods); … eviction.Message(&t, observations, &pods[0])
//	}
//
// Signals, thresholds, ranking and messages are the kubelet's (kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction).
// The defaults are not: 100 MiB of free memory, the kubelet's, would be all that a small gateway has.
//
// A State belongs to one goroutine. Tests are tables.
package eviction
