package derived

import (
	"fmt"
	"strings"
)

// call parses the arguments of a function; its name and "(" have been taken.
func (p *parser) call(t token) *node {
	if t.text == "if" {
		return p.callIf(t)
	}
	f, ok := functionNamed(t.text)
	if !ok {
		return p.fail(t, fmt.Sprintf("there is no function %q", clip(t.text)), strings.Join(functionNames(), ", "))
	}
	slot := -1
	var args []*node
	for i := 0; p.err == nil; i++ {
		if _, done := p.accept(")"); done {
			if i < len(f.params) {
				return p.fail(t, fmt.Sprintf("%s has %d arguments", f.name, i), f.usage())
			}
			break
		}
		if i > 0 {
			p.expect(",", " or ) after an argument")
		}
		want, ok := f.param(i)
		if !ok {
			return p.fail(p.peek(), f.name+" has too many arguments", f.usage())
		}
		if want == 'p' {
			slot = p.propertyArgument(f)
			continue
		}
		args = append(args, p.argument(f, want, slot))
	}
	if p.err != nil {
		return &node{run: runConstant}
	}
	return p.build(t, f, slot, args)
}

func (p *parser) callIf(t token) *node {
	cond := p.ternary()
	p.expect(",", " of if(condition, a, b)")
	a := p.ternary()
	p.expect(",", " of if(condition, a, b)")
	b := p.ternary()
	p.expect(")", " of if(condition, a, b)")
	return p.choose(t, cond, a, b)
}

// param returns the letter of the i-th parameter.
func (f function) param(i int) (byte, bool) {
	switch {
	case i < len(f.params):
		return f.params[i], true
	case f.more:
		return f.params[len(f.params)-1], true
	default:
		return 0, false
	}
}

func (f function) usage() string {
	words := map[rune]string{'n': "number", 'f': "number", 'i': "whole number", 'b': "true or false", 't': "text", 'p': "property", 's': "value of its type"}
	var out []string
	for _, c := range f.params {
		out = append(out, words[c])
	}
	if f.more {
		out = append(out, "…")
	}
	return f.name + "(" + strings.Join(out, ", ") + ")"
}

func (p *parser) propertyArgument(f function) int {
	t := p.take()
	if t.kind != tokName && t.kind != tokQuoted {
		p.fail(t, fmt.Sprintf("%s is about a property, and finds %s", f.name, t), f.usage())
		return -1
	}
	return p.slot(t)
}

// argument parses one argument and brings it into the type that the function wants.
func (p *parser) argument(f function, want byte, slot int) *node {
	t := p.peek()
	x := p.ternary()
	if p.err != nil {
		return x
	}
	typ := map[byte]Type{'f': Float, 'i': Int, 'b': Bool, 't': Text}[want]
	if want == 's' {
		typ = TypeOf(p.properties[slot].Type)
	}
	switch {
	case want == 'n' && x.typ.numeric(), x.typ == typ:
		return x
	case typ == Float && x.typ == Int:
		return p.toFloat(t, x)
	default:
		return p.fail(t, fmt.Sprintf("an argument of %s is %s", f.name, x.typ), f.usage())
	}
}

// build makes the node of a call.
func (p *parser) build(t token, f function, slot int, args []*node) *node {
	typ, run := f.result, f.run
	p.timed = p.timed || f.name == "age" || f.name == "now"
	switch {
	case typ != Invalid:
	case slot >= 0:
		if typ = TypeOf(p.properties[slot].Type); typ == Invalid {
			return p.fail(t, fmt.Sprintf("%s of a %s is not a value that can be calculated with", f.name, p.properties[slot].Type), "INT, FLOAT, DOUBLE, BOOLEAN, STRING")
		}
	default:
		typ = Int
		for _, x := range args {
			if x.typ != Int {
				typ = Float
			}
		}
		if typ == Int {
			run = f.whole
			break
		}
		for i := range args {
			args[i] = p.toFloat(t, args[i])
		}
	}
	n := p.node(t, typ, run, args...)
	if slot >= 0 {
		n = p.about(n, slot)
		if numeric := f.name == "delta" || f.name == "rate" || f.name == "increase"; numeric && !TypeOf(p.properties[slot].Type).numeric() {
			return p.fail(t, fmt.Sprintf("%s is about numbers, and %q is %s", f.name, clip(n.name), p.properties[slot].Type), "INT, FLOAT, DOUBLE")
		}
	}
	if f.why != "" {
		n.because(f.why)
	}
	return n
}
