package pods

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// usage is what differs between two refusals of the same memory limit.
var usage = regexp.MustCompile(` ?\(current usage: \d+, peak usage: -?\d+\)`)

// explainRefusal puts in front of the runtime's words what they mean for the pod's author, where that is known. The text is
// the same for the same cause, so that its repetition is recognised.
func explainRefusal(c *corev1.Container, err error) string {
	text := usage.ReplaceAllString(err.Error(), "")
	limit := string(c.Resources.Limits["memory"])
	switch {
	case limit != "" && containsAny(text, "unable to set memory limit", "memory limit too low", "OOM-killed", "Minimum memory limit", "memory.limit_in_bytes", "memory.max"):
		return fmt.Sprintf("the memory limit %s is too small to start the container: raise resources.limits.memory of container %q (%s)", limit, c.Name, text)
	case strings.Contains(text, "exec: ") && containsAny(text, "no such file or directory", "executable file not found"):
		return fmt.Sprintf("the image has no such program: correct the command of container %q, or use another image (%s)", c.Name, text)
	case containsAny(text, "IDMAP", "idmap"):
		return fmt.Sprintf("a volume of container %q cannot be mounted into a user namespace: its file system has no idmapped mounts, which takes Linux 5.12 (ext4, xfs, btrfs), 5.19 (overlay) or 6.3 "+
			"(tmpfs: secrets, tokens and emptyDir in memory), or newer, and /dev, /proc, /sys and NFS never have; upgrade the kernel, or remove spec.hostUsers (%s)", c.Name, text)
	case strings.Contains(text, "exec format error"):
		return fmt.Sprintf("the image of container %q is for another processor: use one for this gateway (%s)", c.Name, text)
	}
	return text
}

func containsAny(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}
