package alarm

import "time"

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

// Record is what is kept of an alarm over a restart of the agent, so that a restart raises nothing twice.
type Record struct {
	Name  string    `msg:"n"`
	Level uint8     `msg:"l"`
	Since time.Time `msg:"s"` // when it left Normal
	Text  string    `msg:"t"` // the value that made it so
}
