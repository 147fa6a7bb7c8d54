package conformance

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/jsonpath"
	"k8s.io/utils/ptr"
)

// View is what the API shows of a pod at one moment.
type View struct {
	Pod    *corev1.Pod
	Gone   bool // it was deleted; Pod is its last version
	Events []corev1.Event

	Endpoints []discoveryv1.EndpointConditions // what EndpointSlices have said of it, in order
}

// Sentence is one expectation.
type Sentence struct {
	Text string
	// Is says whether it is true of a view, and what was seen.
	Is func(v *View) (is bool, saw string)
}

// Compile reads a sentence:
//
//	phase P · reason R · message has TEXT · qos Q · gone
//	observed                                the status is about the newest generation of the pod
//	condition TYPE STATUS [REASON]
//	event [Normal|Warning] REASON [TEXT]    one that has TEXT in its message; no event REASON
//	endpoint READY SERVING TERMINATING      an EndpointSlice has said so of the pod
//	field {JSONPATH} is VALUE | has TEXT | set | unset
//	C running · C ready · C unready · C started · C unstarted · C restarts N | >=N
//	C waiting REASON [TEXT]
//	C [last] terminated CODE REASON         CODE * is any
//	C [last] says TEXT · C lacks TEXT       its termination message
//	C ran >=N | <=N                         seconds between its start and its end
//	C rested >=N | <=N                      seconds between its last end and its start
//	C came after D                          C started when D had ended, or, if D runs, after D started
//
// C and D are names of containers of any kind.
func Compile(text string) (Sentence, error) {
	w := strings.Fields(text)
	if len(w) == 0 {
		return Sentence{}, fmt.Errorf("an empty sentence")
	}
	rest := func(n int) string { // the text after n words, as it is written
		t := text
		for range n {
			t = strings.TrimLeft(t, " ")
			_, t, _ = strings.Cut(t, " ")
		}
		return t
	}
	s := Sentence{Text: text}
	switch {
	case text == "gone":
		s.Is = func(v *View) (bool, string) { return v.Gone, fmt.Sprintf("gone is %v", v.Gone) }
	case text == "observed":
		s.Is = func(v *View) (bool, string) {
			return v.Pod.Status.ObservedGeneration == v.Pod.Generation, fmt.Sprintf("generation %d, observed %d", v.Pod.Generation, v.Pod.Status.ObservedGeneration)
		}
	case w[0] == "phase" && len(w) == 2:
		s.Is = equal(func(v *View) string { return string(v.Pod.Status.Phase) }, w[1])
	case w[0] == "reason" && len(w) == 2:
		s.Is = equal(func(v *View) string { return v.Pod.Status.Reason }, w[1])
	case w[0] == "qos" && len(w) == 2:
		s.Is = equal(func(v *View) string { return string(v.Pod.Status.QOSClass) }, w[1])
	case w[0] == "message" && w[1] == "has":
		s.Is = has(func(v *View) string { return v.Pod.Status.Message }, rest(2))
	case w[0] == "condition" && (len(w) == 3 || len(w) == 4):
		s.Is = condition(w[1], w[2], strings.Join(w[3:], ""))
	case w[0] == "event" && len(w) > 1:
		kind, n := "", 1
		if w[1] == corev1.EventTypeNormal || w[1] == corev1.EventTypeWarning {
			kind, n = w[1], 2
		}
		if len(w) <= n {
			return s, fmt.Errorf("%q names no reason", text)
		}
		s.Is = event(kind, w[n], rest(n+1))
	case w[0] == "no" && w[1] == "event" && len(w) == 3:
		is := event("", w[2], "")
		s.Is = func(v *View) (bool, string) { ok, saw := is(v); return !ok, saw }
	case w[0] == "endpoint" && len(w) == 4:
		s.Is = endpoint(rest(1))
	case w[0] == "field" && len(w) > 2:
		return s, s.field(text)
	case len(w) > 1:
		return s, s.container(w, rest)
	}
	if s.Is == nil {
		return s, fmt.Errorf("%q is no sentence", text)
	}
	return s, nil
}

func equal(of func(*View) string, want string) func(*View) (bool, string) {
	return func(v *View) (bool, string) { got := of(v); return got == want, strconv.Quote(got) }
}

func has(of func(*View) string, want string) func(*View) (bool, string) {
	return func(v *View) (bool, string) { got := of(v); return strings.Contains(got, want), strconv.Quote(got) }
}

func condition(kind, status, reason string) func(*View) (bool, string) {
	return func(v *View) (bool, string) {
		for _, c := range v.Pod.Status.Conditions {
			if string(c.Type) == kind {
				return string(c.Status) == status && (reason == "" || c.Reason == reason), fmt.Sprintf("%s %s %s: %s", c.Type, c.Status, c.Reason, c.Message)
			}
		}
		return false, "no condition " + kind
	}
}

func event(kind, reason, text string) func(*View) (bool, string) {
	return func(v *View) (bool, string) {
		var saw []string
		for i := range v.Events {
			e := &v.Events[i]
			saw = append(saw, e.Reason+": "+e.Message)
			if e.Reason == reason && (kind == "" || e.Type == kind) && strings.Contains(e.Message, text) {
				return true, ""
			}
		}
		return false, fmt.Sprintf("events %q", saw)
	}
}

func endpoint(want string) func(*View) (bool, string) {
	return func(v *View) (bool, string) {
		var saw []string
		for _, c := range v.Endpoints {
			saw = append(saw, fmt.Sprintf("%v %v %v", ptr.Deref(c.Ready, true), ptr.Deref(c.Serving, true), ptr.Deref(c.Terminating, false)))
		}
		return slices.Contains(saw, want), fmt.Sprintf("endpoints %q", saw)
	}
}

// field reads the sentences about a JSON path.
func (s *Sentence) field(text string) error {
	open, shut := strings.Index(text, "{"), strings.LastIndex(text, "}")
	if open < 0 || shut < open {
		return fmt.Errorf("%q has no {JSONPATH}", text)
	}
	path := jsonpath.New("field").AllowMissingKeys(true)
	if err := path.Parse(text[open : shut+1]); err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	get := func(v *View) string {
		doc, err := runtime.DefaultUnstructuredConverter.ToUnstructured(v.Pod)
		if err != nil {
			return err.Error()
		}
		var b bytes.Buffer
		if err := path.Execute(&b, doc); err != nil {
			return ""
		}
		return b.String()
	}
	verb, value, _ := strings.Cut(strings.TrimSpace(text[shut+1:]), " ")
	switch verb {
	case "is":
		s.Is = equal(get, value)
	case "has":
		s.Is = has(get, value)
	case "set":
		s.Is = func(v *View) (bool, string) { got := get(v); return got != "", strconv.Quote(got) }
	case "unset":
		s.Is = equal(get, "")
	default:
		return fmt.Errorf("%q: %q is neither is, has, set nor unset", text, verb)
	}
	return nil
}

// statusOf finds a container's status, of whatever kind it is.
func statusOf(v *View, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{v.Pod.Status.InitContainerStatuses, v.Pod.Status.ContainerStatuses, v.Pod.Status.EphemeralContainerStatuses} {
		if i := slices.IndexFunc(list, func(c corev1.ContainerStatus) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// container reads the sentences that begin with a container's name.
func (s *Sentence) container(w []string, rest func(int) string) error {
	name, verb, args, n := w[0], w[1], w[2:], 2
	last := verb == "last" && len(args) > 0
	if last {
		verb, args, n = args[0], args[1:], 3
	}
	var is func(c *corev1.ContainerStatus, v *View) bool
	switch {
	case len(args) == 0:
		is = map[string]func(c *corev1.ContainerStatus, v *View) bool{
			"running":   func(c *corev1.ContainerStatus, _ *View) bool { return c.State.Running != nil },
			"ready":     func(c *corev1.ContainerStatus, _ *View) bool { return c.Ready },
			"unready":   func(c *corev1.ContainerStatus, _ *View) bool { return !c.Ready },
			"started":   func(c *corev1.ContainerStatus, _ *View) bool { return c.Started != nil && *c.Started },
			"unstarted": func(c *corev1.ContainerStatus, _ *View) bool { return c.Started == nil || !*c.Started },
		}[verb]
	case verb == "restarts":
		bound, err := number(args[0])
		if err != nil {
			return err
		}
		is = func(c *corev1.ContainerStatus, _ *View) bool { return bound(float64(c.RestartCount), 0) }
	case verb == "waiting":
		is = func(c *corev1.ContainerStatus, _ *View) bool {
			return c.State.Waiting != nil && c.State.Waiting.Reason == args[0] && strings.Contains(c.State.Waiting.Message, rest(n+1))
		}
	case verb == "terminated" && len(args) == 2:
		is = func(c *corev1.ContainerStatus, _ *View) bool {
			t := terminated(c, last)
			return t != nil && (args[0] == "*" || args[0] == strconv.Itoa(int(t.ExitCode))) && t.Reason == args[1]
		}
	case verb == "says":
		is = func(c *corev1.ContainerStatus, _ *View) bool {
			t := terminated(c, last)
			return t != nil && strings.Contains(t.Message, rest(n))
		}
	case verb == "lacks":
		is = func(c *corev1.ContainerStatus, _ *View) bool {
			t := terminated(c, last)
			return t != nil && !strings.Contains(t.Message, rest(n))
		}
	case verb == "ran" || verb == "rested":
		bound, err := number(args[0])
		if err != nil {
			return err
		}
		is = duration(verb == "rested", bound)
	case verb == "came" && len(args) == 2 && args[0] == "after":
		is = func(c *corev1.ContainerStatus, v *View) bool { return cameAfter(c, statusOf(v, args[1])) }
	}
	if is == nil {
		return fmt.Errorf("%q is no sentence", s.Text)
	}
	s.Is = func(v *View) (bool, string) {
		c := statusOf(v, name)
		if c == nil {
			return false, "no status of container " + name
		}
		return is(c, v), Describe(c)
	}
	return nil
}

// terminated returns how a container ended: now, or else before.
func terminated(c *corev1.ContainerStatus, last bool) *corev1.ContainerStateTerminated {
	if c.State.Terminated != nil && !last {
		return c.State.Terminated
	}
	if last {
		return c.LastTerminationState.Terminated
	}
	return nil
}

// number reads N, >=N or <=N. The bound takes a slack, for values that were rounded.
func number(text string) (func(v, slack float64) bool, error) {
	value, err := strconv.ParseFloat(strings.TrimLeft(text, "<>="), 64)
	if err != nil {
		return nil, fmt.Errorf("%q is no number: %w", text, err)
	}
	switch {
	case strings.HasPrefix(text, ">="):
		return func(v, slack float64) bool { return v >= value-slack }, nil
	case strings.HasPrefix(text, "<="):
		return func(v, slack float64) bool { return v <= value+slack }, nil
	default:
		return func(v, _ float64) bool { return v == value }, nil
	}
}

// duration holds how long a container ran, or rested before it started again. Two times in whole seconds are up to one second wrong.
func duration(rested bool, bound func(v, slack float64) bool) func(*corev1.ContainerStatus, *View) bool {
	return func(c *corev1.ContainerStatus, _ *View) bool {
		var from, to time.Time
		if rested {
			if c.LastTerminationState.Terminated == nil {
				return false
			}
			from, to = c.LastTerminationState.Terminated.FinishedAt.Time, began(c)
		} else if t := cmp.Or(c.State.Terminated, c.LastTerminationState.Terminated); t != nil {
			from, to = t.StartedAt.Time, t.FinishedAt.Time
		}
		return !from.IsZero() && !to.IsZero() && bound(to.Sub(from).Seconds(), 1)
	}
}

// began returns when the present run of a container began, zero if it waits.
func began(c *corev1.ContainerStatus) time.Time {
	switch {
	case c.State.Running != nil:
		return c.State.Running.StartedAt.Time
	case c.State.Terminated != nil:
		return c.State.Terminated.StartedAt.Time
	default:
		return time.Time{}
	}
}

func cameAfter(c, d *corev1.ContainerStatus) bool {
	if d == nil || began(c).IsZero() || began(d).IsZero() {
		return false
	}
	if d.State.Terminated != nil && (d.State.Terminated.ExitCode == 0) {
		return !began(c).Before(d.State.Terminated.FinishedAt.Time)
	}
	return !began(c).Before(began(d))
}

// Describe is a container's state in a line.
func Describe(c *corev1.ContainerStatus) string {
	text := fmt.Sprintf("%s: ready %v restarts %d", c.Name, c.Ready, c.RestartCount)
	if s := c.State.Waiting; s != nil {
		text += fmt.Sprintf(" waiting %s: %s", s.Reason, s.Message)
	}
	if s := c.State.Running; s != nil {
		text += " running since " + s.StartedAt.UTC().Format(time.TimeOnly)
	}
	for what, t := range map[string]*corev1.ContainerStateTerminated{" terminated": c.State.Terminated, " last terminated": c.LastTerminationState.Terminated} {
		if t != nil {
			text += fmt.Sprintf("%s %d %s (%s to %s): %q", what, t.ExitCode, t.Reason, t.StartedAt.UTC().Format(time.TimeOnly), t.FinishedAt.UTC().Format(time.TimeOnly), t.Message)
		}
	}
	return text
}
