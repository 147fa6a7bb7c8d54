package config

import "fmt"

// check judges the limits of the history of device values.
func (h History) check(bad func(key string, value any, allowed string)) {
	if h.DeviceMetrics < 0 || h.DeviceMetrics > 1000 {
		bad("devices.history.deviceMetrics", h.DeviceMetrics, "allowed are 0 (the sums of all devices only) to 1000")
	}
	if h.MaxBytes != 0 && (h.MaxBytes < 1<<20 || h.MaxBytes > 64<<30) {
		bad("devices.history.maxBytes", h.MaxBytes, "allowed are 0 (no history) and 1Mi to 64Gi")
		return
	}
	if least := max(256<<10, h.MaxBytes/128); h.DeviceBytes != 0 && (h.DeviceBytes < least || h.DeviceBytes > h.MaxBytes) {
		bad("devices.history.deviceBytes", h.DeviceBytes, fmt.Sprintf("allowed are 0 (a quarter of devices.history.maxBytes) and %v to %v", least, h.MaxBytes))
	}
}
