// Package derived calculates properties of a device from its other properties: the expressions of visitors' `expr` and the conditions
// of alarms. It is pure logic: no I/O, no clock of its own.
//
// # Usage
//
//	set, errs := derived.Compile([]derived.Property{
//		{Name: "flow", Type: device.TypeDouble},
//		{Name: "flow-m3h", Type: device.TypeDouble, Expr: "flow * 3.6"},
//	})
//	state := set.State()
//	state.Put(0, device.Float(2)) // a fresh reading
//	for _, r := range state.Run(time.Now()) {
//		// r.Index is 1, r.Value is 7.2
//	}
//
// # The language
//
// Names of properties, numbers, texts in quotes, true and false; + - * / % ** and comparisons; & | ~ << >> on whole numbers;
// and, or, not (&&, ||, !); c ? a : b; functions (functions.go). Everything is typed when it is compiled: boolean, whole number
// (64 bits, overflow is an error), number (float64), text. There are no loops and no definitions, the length of an expression and
// its depth are bounded, so an evaluation costs at most one step for each of its operators.
//
// A calculation never panics: what has no result (a division by zero, an input that is bad) is a bad value with the reason. The quality of
// a result is the worst of the inputs that it used. In steady state an evaluation allocates nothing.
//
// # Concurrency
//
// An Expr and a Set are immutable. A State belongs to one goroutine.
//
// # Testing
//
// Tables of expressions and their results, a fuzz test against panics and unbounded work, and a count of allocations.
package derived
