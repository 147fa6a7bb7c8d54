//go:build !linux

package pods

import "time"

func uptime() (boot string, up time.Duration) { return "", 0 }
