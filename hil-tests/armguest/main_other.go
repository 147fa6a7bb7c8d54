//go:build !arm

// Command armguest is PID 1 of the small ARMv7 machine in which the agent's memory is measured; it is built for
// linux/arm only (see main_linux_arm.go).
package main

import "fmt"

func main() {
	fmt.Println("armguest is PID 1 of an ARMv7 test machine; build it with GOOS=linux GOARCH=arm")
}
