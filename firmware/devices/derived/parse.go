package derived

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// Property is one property of a device.
type Property struct {
	Name string
	Type device.Type
	// Expr calculates the property; empty for one that is read from the device.
	Expr string
}

// parser turns tokens into nodes and checks types as it goes. It stops at the first error, which it keeps.
type parser struct {
	src        string
	properties []Property
	index      map[string]int // of properties, by name
	tokens     []token
	at         int
	depth      int
	nodes      int
	inputs     []int
	timed      bool
	err        *Error
}

// Parse compiles one expression over the properties of a device. Its error is an *Error.
func Parse(src string, properties []Property) (*Expr, error) {
	return parse(src, properties, indexOf(properties))
}

func indexOf(properties []Property) map[string]int {
	out := make(map[string]int, len(properties))
	for i, x := range properties {
		out[x.Name] = i
	}
	return out
}

func parse(src string, properties []Property, index map[string]int) (*Expr, error) {
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, properties: properties, index: index, tokens: tokens}
	if p.peek().kind == tokEnd {
		return nil, &Error{Pos: 1, Problem: "the expression is empty", Allowed: "e.g. flow * 3.6"}
	}
	root := p.ternary()
	if t := p.peek(); p.err == nil && t.kind != tokEnd {
		p.fail(t, "unexpected "+t.String(), "an operator, or the end")
	}
	if p.err != nil {
		return nil, p.err
	}
	if len(p.inputs) == 0 {
		return nil, &Error{Pos: 1, Problem: "it names no property, so nothing would ever calculate it", Allowed: p.propertyNames()}
	}
	slices.Sort(p.inputs)
	return &Expr{root: root, inputs: p.inputs, timed: p.timed}, nil
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != tokEnd {
		p.at++
	}
	return t
}

// accept takes the next token if it is one of the operators or words given.
func (p *parser) accept(ops ...string) (token, bool) {
	t := p.peek()
	if p.err == nil && (t.kind == tokOp || t.kind == tokName) && slices.Contains(ops, t.text) {
		return p.take(), true
	}
	return t, false
}

func (p *parser) expect(op, why string) {
	if t, ok := p.accept(op); !ok && p.err == nil {
		p.fail(t, fmt.Sprintf("expected %q%s and found %s", op, why, t), "")
	}
}

// fail records the first error. It returns a node, so that callers need not stop at once.
func (p *parser) fail(t token, problem, allowed string) *node {
	if p.err == nil {
		p.err = &Error{Pos: column(p.src, t.pos), Problem: problem, Allowed: allowed}
	}
	return &node{run: runConstant, typ: Invalid}
}

func (p *parser) node(t token, typ Type, run func(*machine, *node) datum, args ...*node) *node {
	if p.nodes++; p.nodes > maxNodes {
		return p.fail(t, "the expression is too long", fmt.Sprintf("up to %d operators, names and numbers; a part of it can be a property of its own", maxNodes))
	}
	return &node{run: run, typ: typ, pos: column(p.src, t.pos), args: args}
}

// because gives a node the reason of its bad values.
func (n *node) because(why string) *node {
	if why != "" {
		n.why = fmt.Sprintf("%s, at character %d of the expression", why, n.pos)
	}
	return n
}

// deeper bounds recursion: false ends the parse.
func (p *parser) deeper() bool {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.peek(), "the expression is nested too deeply", fmt.Sprintf("up to %d levels; a part of it can be a property of its own", maxDepth))
	}
	return p.err == nil
}

func (p *parser) ternary() *node {
	if !p.deeper() {
		return p.fail(p.peek(), "", "")
	}
	defer func() { p.depth-- }()
	cond := p.or()
	q, ok := p.accept("?")
	if !ok {
		return cond
	}
	a := p.ternary()
	p.expect(":", " of a ? b : c")
	return p.choose(q, cond, a, p.ternary())
}

// choose builds a condition with its two results, which must be of one type.
func (p *parser) choose(t token, cond, a, b *node) *node {
	if p.err != nil {
		return a
	}
	if cond.typ != Bool {
		return p.fail(t, "the condition is "+cond.typ.String(), "true or false, e.g. x > 0")
	}
	if a.typ != b.typ {
		if !a.typ.numeric() || !b.typ.numeric() {
			return p.fail(t, fmt.Sprintf("one result is %s, the other is %s", a.typ, b.typ), "two results of one type")
		}
		a, b = p.toFloat(t, a), p.toFloat(t, b)
	}
	return p.node(t, a.typ, runChoose, cond, a, b)
}

func (p *parser) toFloat(t token, n *node) *node {
	switch {
	case n.typ != Int:
		return n
	case n.constant:
		n.val.f, n.typ = float64(n.val.i), Float
		return n
	default:
		return p.node(t, Float, runToFloat, n)
	}
}

func (p *parser) or() *node {
	left := p.and()
	for {
		t, ok := p.accept("or", "||")
		if !ok {
			return left
		}
		left = p.logic(t, runOr, left, p.and())
	}
}

func (p *parser) and() *node {
	left := p.comparison()
	for {
		t, ok := p.accept("and", "&&")
		if !ok {
			return left
		}
		left = p.logic(t, runAnd, left, p.comparison())
	}
}

func (p *parser) logic(t token, run func(*machine, *node) datum, a, b *node) *node {
	if p.err != nil {
		return a
	}
	for _, x := range []*node{a, b} {
		if x.typ != Bool {
			return p.fail(t, fmt.Sprintf("%q joins what is true or false, and finds %s", t.text, x.typ), "comparisons, e.g. x > 0; single bits are joined by & and |")
		}
	}
	return p.node(t, Bool, run, a, b)
}

func (p *parser) comparison() *node {
	left := p.bitOr()
	t, ok := p.accept("==", "!=", "<", "<=", ">", ">=")
	if !ok {
		if t.kind == tokOp && t.text == "=" {
			p.fail(t, `"=" does not compare`, "==")
		}
		return left
	}
	right := p.bitOr()
	if p.err != nil {
		return left
	}
	if next, chained := p.accept("==", "!=", "<", "<=", ">", ">="); chained {
		return p.fail(next, "comparisons cannot be chained", "a < b and b < c")
	}
	if left.typ != right.typ {
		if !left.typ.numeric() || !right.typ.numeric() {
			return p.fail(t, fmt.Sprintf("%s is compared with %s", left.typ, right.typ), "two numbers, two texts, or two that are true or false")
		}
		left, right = p.toFloat(t, left), p.toFloat(t, right)
	}
	if left.typ == Bool && t.text != "==" && t.text != "!=" {
		return p.fail(t, "true and false have no order", "==, !=")
	}
	run := map[string]func(*machine, *node) datum{"==": runEqual, "!=": runDiffers, "<": runLess, "<=": runLessEqual, ">": runMore, ">=": runMoreEqual}[t.text]
	return p.node(t, Bool, run, left, right)
}

func (p *parser) bitOr() *node {
	left := p.bitAnd()
	for {
		t, ok := p.accept("|")
		if !ok {
			return left
		}
		left = p.binary(t, left, p.bitAnd())
	}
}

func (p *parser) bitAnd() *node {
	left := p.shift()
	for {
		t, ok := p.accept("&")
		if !ok {
			return left
		}
		left = p.binary(t, left, p.shift())
	}
}

func (p *parser) shift() *node {
	left := p.sum()
	for {
		t, ok := p.accept("<<", ">>")
		if !ok {
			return left
		}
		left = p.binary(t, left, p.sum())
	}
}

func (p *parser) sum() *node {
	left := p.product()
	for {
		t, ok := p.accept("+", "-")
		if !ok {
			return left
		}
		left = p.binary(t, left, p.product())
	}
}

func (p *parser) product() *node {
	left := p.unary()
	for {
		t, ok := p.accept("*", "/", "%")
		if !ok {
			if p.err == nil && t.kind == tokOp && t.text == "^" {
				p.fail(t, `"^" means different things in different tools`, "** for a power, xor(a, b) for the exclusive or of bits")
			}
			return left
		}
		left = p.binary(t, left, p.unary())
	}
}

// operator is a binary operator on numbers; nil: not for that type.
type operator struct {
	whole, float func(*machine, *node) datum
	why          string
}

func operatorOf(text string) operator {
	switch text {
	case "+":
		return operator{runAddInt, runAdd, "the sum is " + tooLarge}
	case "-":
		return operator{runSubInt, runSub, "the difference is " + tooLarge}
	case "*":
		return operator{runMulInt, runMul, "the product is " + tooLarge}
	case "/":
		return operator{nil, runDiv, "division by zero"}
	case "%":
		return operator{runModInt, runMod, "division by zero"}
	case "**":
		return operator{nil, runPow, ""}
	case "&":
		return operator{runBitAnd, nil, ""}
	case "|":
		return operator{runBitOr, nil, ""}
	case "<<":
		return operator{runShiftLeft, nil, "a shift outside 0 to 63"}
	default:
		return operator{runShiftRight, nil, "a shift outside 0 to 63"}
	}
}

func (p *parser) binary(t token, a, b *node) *node {
	if p.err != nil {
		return a
	}
	op := operatorOf(t.text)
	for _, x := range []*node{a, b} {
		if !x.typ.numeric() {
			return p.fail(t, fmt.Sprintf("%q calculates with numbers, and finds %s", t.text, x.typ), "numbers; of true or false a number is made by x ? 1 : 0")
		}
		if op.float == nil && x.typ != Int {
			return p.fail(t, fmt.Sprintf("%q works on the bits of whole numbers, and finds a number with a fraction", t.text), "INT properties, or int(x)")
		}
	}
	if op.whole != nil && a.typ == Int && b.typ == Int {
		return p.node(t, Int, op.whole, a, b).because(op.why)
	}
	return p.node(t, Float, op.float, p.toFloat(t, a), p.toFloat(t, b)).because(op.why)
}

func (p *parser) unary() *node {
	if !p.deeper() {
		return p.fail(p.peek(), "", "")
	}
	defer func() { p.depth-- }()
	t, ok := p.accept("-", "+", "!", "not", "~")
	if !ok {
		return p.power()
	}
	x := p.unary()
	if p.err != nil {
		return x
	}
	switch {
	case t.text == "!" || t.text == "not":
		if x.typ != Bool {
			return p.fail(t, fmt.Sprintf("%q turns true and false round, and finds %s", t.text, x.typ), "~ for the bits of a whole number")
		}
		return p.node(t, Bool, runNot, x)
	case t.text == "~" && x.typ == Int:
		return p.node(t, Int, runBitNot, x)
	case !x.typ.numeric() || t.text == "~":
		return p.fail(t, fmt.Sprintf("%q stands before %s", t.text, x.typ), "numbers; ~ whole numbers")
	case t.text == "+":
		return x
	case x.typ == Int:
		return p.node(t, Int, runNegateInt, x).because(tooLarge)
	default:
		return p.node(t, Float, runNegate, x)
	}
}

// power binds tighter than a sign on its left and looser than one on its right: -2 ** -2 is -(2 ** (-2)).
func (p *parser) power() *node {
	left := p.primary()
	t, ok := p.accept("**")
	if !ok {
		return left
	}
	return p.binary(t, left, p.unary())
}

func (p *parser) constant(t token, typ Type, d datum) *node {
	n := p.node(t, typ, runConstant)
	n.val, n.constant = d, true
	return n
}

func (p *parser) primary() *node {
	t := p.take()
	switch {
	case t.kind == tokInt:
		return p.constant(t, Int, datum{i: t.i})
	case t.kind == tokFloat:
		return p.constant(t, Float, datum{f: t.f})
	case t.kind == tokText:
		return p.constant(t, Text, datum{s: t.text})
	case t.kind == tokQuoted:
		return p.property(t)
	case t.kind == tokOp && t.text == "(":
		n := p.ternary()
		p.expect(")", "")
		return n
	case t.kind == tokName && (t.text == "true" || t.text == "false"):
		return p.constant(t, Bool, boolean(t.text == "true"))
	case t.kind == tokName:
		if _, called := p.accept("("); called {
			return p.call(t)
		}
		return p.property(t)
	default:
		return p.fail(t, "unexpected "+t.String(), "a property, a number, a function, or ( … )")
	}
}

// slot finds a property and counts it as an input; -1 after an error.
func (p *parser) slot(t token) int {
	if p.err != nil {
		return -1
	}
	i, ok := p.index[t.text]
	if !ok {
		p.fail(t, fmt.Sprintf("the device has no property %q", clip(t.text)), p.propertyNames())
		p.err.Problem += p.hyphen(t)
		return -1
	}
	if !slices.Contains(p.inputs, i) {
		p.inputs = append(p.inputs, i)
	}
	return i
}

// hyphen explains flow-rate, which is flow minus rate.
func (p *parser) hyphen(t token) string {
	for _, x := range p.properties {
		if strings.HasPrefix(x.Name, t.text) && strings.HasPrefix(p.src[t.pos:], x.Name) {
			return fmt.Sprintf(" (write `%s` in backquotes)", clip(x.Name))
		}
	}
	return ""
}

func (p *parser) propertyNames() string {
	const most = 20
	var names []string
	for _, x := range p.properties {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, clip(x.Name))
	}
	return strings.Join(names, ", ")
}

func (p *parser) property(t token) *node {
	slot := p.slot(t)
	if p.err != nil {
		return &node{run: runConstant}
	}
	x := p.properties[slot]
	typ := TypeOf(x.Type)
	if typ == Invalid {
		return p.fail(t, fmt.Sprintf("property %q is %s, which cannot be calculated with", clip(x.Name), x.Type), "INT, FLOAT, DOUBLE, BOOLEAN, STRING; of others quality(p), age(p), timestamp(p)")
	}
	return p.about(p.node(t, typ, runProperty), slot)
}

// about ties a node to the property that it reads.
func (p *parser) about(n *node, slot int) *node {
	n.slot, n.name = slot, p.properties[slot].Name
	n.why = fmt.Sprintf("property %q holds no such datum: %s", clip(n.name), TypeOf(p.properties[slot].Type))
	return n
}
