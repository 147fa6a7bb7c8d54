package kube

import (
	"iter"
	"reflect"
)

// Small accessors for decoded JSON. A missing or ill-typed value reads as empty: the API server has validated what we
// read, and what an agent sends is decoded into typed structs before it is used.

func child(m map[string]any, name string) map[string]any {
	c, _ := m[name].(map[string]any)
	return c
}

func text(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

func items(m map[string]any, name string) iter.Seq[map[string]any] {
	list, _ := m[name].([]any)
	return func(yield func(map[string]any) bool) {
		for _, e := range list {
			if e, ok := e.(map[string]any); ok && !yield(e) {
				return
			}
		}
	}
}

// mergePatch returns the JSON merge patch (RFC 7396) that turns from into to, and nil if they are equal. Lists are
// replaced as a whole. Neither argument may contain nulls.
func mergePatch(from, to map[string]any) map[string]any {
	var patch map[string]any
	set := func(name string, v any) {
		if patch == nil {
			patch = make(map[string]any)
		}
		patch[name] = v
	}
	for name, want := range to {
		have, ok := from[name]
		if !ok {
			set(name, want)
			continue
		}
		wantMap, isMap := want.(map[string]any)
		haveMap, wasMap := have.(map[string]any)
		switch {
		case isMap && wasMap:
			if sub := mergePatch(haveMap, wantMap); sub != nil {
				set(name, sub)
			}
		case !reflect.DeepEqual(have, want):
			set(name, want)
		}
	}
	for name := range from {
		if _, ok := to[name]; !ok {
			set(name, nil)
		}
	}
	return patch
}
