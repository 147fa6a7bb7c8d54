// Package diagnose collects what somebody needs who has to find out, from afar or later, what is wrong with a gateway: one .tar.gz of bounded size.
//
//	err := diagnose.Write(ctx, file, diagnose.Machine("/", dataDir), diagnose.Agent(socket))
//
// What goes in comes from [Source]s, each of which is given little time and room: a disk that hangs, or an agent that is wedged, costs its own file only, and summary.txt says what is
// missing and why. [Machine] needs no agent; [Agent] asks a running one on its status socket; an agent that makes a bundle of itself gives its own sources.
//
// Nothing secret goes in: keys, tokens, Secrets and ConfigMaps are never read; what is known to look like one is blacked out of all text besides.
//
// Write may be called concurrently. A source that does not return in time is left behind, with its goroutine. Tests use folders in place of the machine, and sources that hang.
package diagnose
