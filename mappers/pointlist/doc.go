// Package pointlist turns lists of points (CSV files as vendors of devices ship them, tag exports of Neuron, what was found by browsing)
// into a DeviceModel and a Device that kubectl can apply.
//
// # Usage
//
//	list, err := pointlist.Read(data, pointlist.Options{})   // CSV, TSV, or Neuron's JSON: it is looked at, not asked for
//	for _, r := range list.Refused { … }                     // every line that was not understood, with the reason
//	text, err := pointlist.Manifests(list, pointlist.Names{Model: "meter", Device: "meter-1", Node: "gw-1"})
//
// Nothing is guessed that would read another register than the list means: what is ambiguous is refused with what would make it clear.
// What was assumed is in List.Notes.
//
// # Concurrency
//
// Pure functions; a List belongs to its caller.
//
// # Testing
//
// Tests read lists of the kinds that are found in manuals; FuzzRead holds Read to its limits.
package pointlist
